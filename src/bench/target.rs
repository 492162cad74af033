//! A broker to be measured, and the processes it is made of.

use std::str::FromStr;

use super::options::Options;

/// `[NAME=]PID` of the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessArgument {
    /// For the figures: `cpu yaks`.
    pub name: String,
    pub pid: u32,
}

impl FromStr for ProcessArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<ProcessArgument, String> {
        let (name, pid) = text.rsplit_once('=').unwrap_or(("server", text));
        let pid = pid.parse().map_err(|_| format!("{pid:?} is not a process id"))?;
        Ok(ProcessArgument { name: name.to_owned(), pid })
    }
}

/// `HOST:PORT[,pid=[NAME=]PID...]` of the command line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetArgument {
    pub brokers: String,
    pub processes: Vec<ProcessArgument>,
}

impl FromStr for TargetArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<TargetArgument, String> {
        let (mut brokers, mut processes) = (Vec::new(), Vec::new());
        for part in text.split(',') {
            match part.strip_prefix("pid=") {
                Some(process) => processes.push(process.parse()?),
                None => brokers.push(part),
            }
        }
        if brokers.iter().all(|b| b.is_empty()) {
            return Err("it names no broker".to_owned());
        }
        Ok(TargetArgument { brokers: brokers.join(","), processes })
    }
}

/// One broker to be measured.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) brokers: String,
    pub(super) processes: Vec<ProcessArgument>,
}

impl Target {
    /// The one or two targets of a run.
    pub(super) fn all(options: &Options) -> Vec<Target> {
        let first = Target { name: options.name.clone(), brokers: options.brokers.clone(), processes: options.processes.clone() };
        let second = options.versus.clone().map(|v| Target { name: v.brokers.clone(), brokers: v.brokers, processes: v.processes });
        std::iter::once(first).chain(second).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_target_names_brokers_and_processes() {
        let target: TargetArgument = "a:1,b:2,pid=7,pid=postgres=8".parse().unwrap();
        assert_eq!(target.brokers, "a:1,b:2");
        let names: Vec<(&str, u32)> = target.processes.iter().map(|p| (p.name.as_str(), p.pid)).collect();
        assert_eq!(names, [("server", 7), ("postgres", 8)]);
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for bad in ["", "pid=3", "a:1,pid=x"] {
            assert!(bad.parse::<TargetArgument>().is_err(), "{bad}");
        }
    }
}
