//! The agents of one cluster, and how clients reach them.

use std::time::Duration;

use super::nginx::{Nginx, free_port};
use super::support::{Broker, Services, signal};

/// How clients reach the agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// All behind one nginx.
    Balanced,
    /// Each at an address of its own.
    Direct,
}

/// How long an agent counts as alive that does not renew its lease.
#[derive(Debug, Clone, Copy)]
pub struct LeaseTtl(pub Duration);

impl LeaseTtl {
    /// The default of yaks.
    pub const USUAL: LeaseTtl = LeaseTtl(Duration::from_secs(15));
    /// For tests that wait for it.
    pub const SHORT: LeaseTtl = LeaseTtl(Duration::from_secs(6));
}

/// When they must have seen one another.
const MEETING: Duration = Duration::from_mins(1);

pub struct Cluster {
    pub agents: Vec<Broker>,
    pub access: Access,
    nginx: Option<Nginx>,
    settings: Vec<(String, String)>,
    pub ttl: LeaseTtl,
    // Last: agents end before what they stand on.
    pub services: Services,
}

impl Cluster {
    pub async fn start(access: Access, agents: usize, ttl: LeaseTtl) -> Cluster {
        let services = Services::start().await;
        Cluster::on(services, access, agents, ttl)
    }

    pub fn on(services: Services, access: Access, agents: usize, ttl: LeaseTtl) -> Cluster {
        let port = free_port();
        let mut settings = vec![
            ("YAKS_GROUPCACHE_LEASE_TTL_MS", ttl.0.as_millis()),
            ("YAKS_GROUPCACHE_HEARTBEAT_MS", ttl.0.as_millis() / 3),
            ("YAKS_METRICS_PORT", 0),
        ];
        if access == Access::Balanced {
            settings.push(("YAKS_ADVERTISED_PORT", u128::from(port)));
        }
        let mut settings: Vec<_> = settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect();
        settings.extend(std::env::var("YAKS_TEST_LOG").ok().map(|filter| ("YAKS_LOG".to_owned(), filter)));
        let mut cluster = Cluster { agents: Vec::new(), access, nginx: None, settings, ttl, services };
        for _ in 0..agents {
            cluster.add();
        }
        if access == Access::Balanced {
            cluster.nginx = Some(Nginx::start(port, &cluster.addresses()));
        }
        cluster
    }

    /// One more agent.
    pub fn add(&mut self) {
        let settings: Vec<(&str, &str)> = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let agent = Broker::agent(&self.services, &settings);
        self.agents.push(agent);
        self.rebalance();
    }

    /// Until the agents that were there from the beginning know of one another: who came last knows all by then.
    pub async fn have_met(&self) {
        let all = format!("agents={}", self.agents.len());
        let know = || self.agents.iter().rev().skip(1).all(|agent| agent.log().contains(&all));
        tokio::time::timeout(MEETING, async {
            while !know() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
        .await
        .expect("agents look around every ten seconds");
    }

    /// The last agent leaves in good order.
    pub fn remove_last(&mut self) {
        if let Some(mut agent) = self.agents.pop() {
            self.rebalance();
            let status = agent.terminate();
            assert!(status.success(), "an agent that was told to stop ended with {status}:\n{}", agent.log());
        }
    }

    fn rebalance(&mut self) {
        let addresses = self.addresses();
        if let Some(nginx) = &mut self.nginx {
            nginx.balance(&addresses);
        }
    }

    /// What clients are told.
    pub fn bootstrap(&self) -> String {
        match &self.nginx {
            Some(nginx) => format!("127.0.0.1:{}", nginx.port),
            None => self.addresses().join(","),
        }
    }

    fn addresses(&self) -> Vec<String> {
        self.agents.iter().map(|agent| agent.address.clone()).collect()
    }

    /// SIGKILL.
    pub fn kill(&mut self, agent: usize) {
        self.agents[agent].kill();
    }

    pub fn restart(&mut self, agent: usize) {
        self.agents[agent].restart();
    }

    /// SIGTERM; it must end in good order, by itself.
    pub fn terminate(&mut self, agent: usize) {
        let agent = &mut self.agents[agent];
        let status = agent.terminate();
        assert!(status.success(), "an agent that was told to stop ended with {status}:\n{}", tail(&agent.log()));
    }

    pub fn stop_clock_of(&self, agent: usize) {
        signal(self.agents[agent].pid(), "STOP");
    }

    /// Starts it again if it had ended by itself meanwhile, and says how it ended.
    pub fn go_on(&mut self, agent: usize) {
        signal(self.agents[agent].pid(), "CONT");
    }

    /// Agents that ended by themselves are started again; which, and how they ended.
    pub fn revive(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for number in 0..self.agents.len() {
            if let Some(status) = self.agents[number].ended() {
                ended.push(format!("agent {number} had ended by itself ({status}) and is started again"));
                self.restart(number);
            }
        }
        ended
    }
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}
