//! What a configuration is: name, values, default, meaning; and how a set of them is changed. Pure.
//!
//! Words: a *table* lists the configurations of one kind of resource; a *change* is what a client wants of one of them.

use kafka_protocol::ResponseError;

use super::error::Refused;
use crate::metastore::Configs;

/// The type of a value, with Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    String,
    Int,
    Long,
    Double,
    List,
}

impl Kind {
    pub(super) fn code(self) -> i8 {
        match self {
            Kind::Boolean => 1,
            Kind::String => 2,
            Kind::Int => 3,
            Kind::Long => 5,
            Kind::Double => 6,
            Kind::List => 7,
        }
    }
}

/// Which values a configuration takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Values {
    Boolean,
    /// A whole number of 32 bits, in this range, both ends inclusive.
    Int(i32, i32),
    /// A whole number of 64 bits, from this up.
    Long(i64),
    /// From 0 to 1.
    Ratio,
    OneOf(&'static [&'static str]),
    /// A list of these, each at most once, at least one.
    ListOf(&'static [&'static str]),
    /// Any list: accepted, without effect.
    List,
    /// Its default and nothing else, for this reason.
    Only(Kind, &'static str),
}

impl Values {
    pub(super) fn kind(self) -> Kind {
        match self {
            Values::Boolean => Kind::Boolean,
            Values::Int(..) => Kind::Int,
            Values::Long(_) => Kind::Long,
            Values::Ratio => Kind::Double,
            Values::OneOf(_) => Kind::String,
            Values::ListOf(_) | Values::List => Kind::List,
            Values::Only(kind, _) => kind,
        }
    }
}

/// A name that a broker's configuration would have, and its default where it differs (as hours from milliseconds).
#[derive(Debug, Clone, Copy)]
pub(super) struct Synonym {
    pub(super) name: &'static str,
    pub(super) default: Option<&'static str>,
}

/// One configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Config {
    pub(super) name: &'static str,
    pub(super) values: Values,
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
    pub(super) synonym: Option<Synonym>,
}

impl Config {
    pub(super) const fn new(name: &'static str, values: Values, default: &'static str, doc: &'static str) -> Self {
        Config { name, values, default, doc, synonym: None }
    }

    /// What a broker calls it.
    pub(super) const fn broker(self, name: &'static str) -> Self {
        Config { synonym: Some(Synonym { name, default: None }), ..self }
    }

    /// What a broker calls it, with a default in another unit.
    pub(super) const fn broker_default(self, name: &'static str, default: &'static str) -> Self {
        Config { synonym: Some(Synonym { name, default: Some(default) }), ..self }
    }

    /// What is wrong with `value`, in words for the client.
    fn check(&self, value: &str) -> Result<(), String> {
        let value = value.trim();
        match self.values {
            Values::Boolean if matches!(value, "true" | "false") => Ok(()),
            Values::Boolean => Err("it must be true or false".to_owned()),
            Values::Int(min, max) => between(value.parse::<i32>().map(i64::from), i64::from(min), i64::from(max)),
            Values::Long(min) => between(value.parse::<i64>(), min, i64::MAX),
            Values::Ratio => match value.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(()),
                Ok(_) | Err(_) => Err("it must be a number from 0 to 1".to_owned()),
            },
            Values::OneOf(allowed) if allowed.contains(&value) => Ok(()),
            Values::OneOf(allowed) => Err(format!("it must be one of {}", allowed.join(", "))),
            Values::ListOf(allowed) => check_list(value, allowed),
            Values::List => Ok(()),
            Values::Only(..) if value == self.default => Ok(()),
            Values::Only(_, because) => Err(format!("it can only be {}: {because}", self.default)),
        }
    }

    fn is_list(&self) -> bool {
        self.values.kind() == Kind::List
    }
}

fn between(value: Result<i64, std::num::ParseIntError>, min: i64, max: i64) -> Result<(), String> {
    match value {
        Ok(value) if value < min => Err(format!("it must be at least {min}")),
        Ok(value) if value > max => Err(format!("it must be at most {max}")),
        Ok(_) => Ok(()),
        Err(_) => Err("it is not a number of the right size".to_owned()),
    }
}

fn check_list(value: &str, allowed: &[&str]) -> Result<(), String> {
    let mut seen = Vec::new();
    for item in value.split(',').map(str::trim) {
        if !allowed.contains(&item) || seen.contains(&item) {
            return Err(format!("it must be a list of {}", allowed.join(", ")));
        }
        seen.push(item);
    }
    Ok(())
}

/// The configurations of one kind of resource.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// What the resource is called in messages.
    pub(super) resource: &'static str,
    /// In order of name.
    pub(super) configs: &'static [Config],
    /// What is wrong with legal values that do not go together, in words for the client.
    pub(super) together: fn(&Configs) -> Result<(), String>,
}

impl Table {
    pub(super) fn find(&self, name: &str) -> Option<&'static Config> {
        self.configs.iter().find(|config| config.name == name)
    }

    /// Checks one configuration that a client sets.
    ///
    /// # Errors
    /// What is wrong, in words for the client.
    fn check_one(&self, name: &str, value: &str) -> Result<(), String> {
        let Some(known) = self.find(name) else { return Err(format!("Unknown {} config name: {name}", self.resource)) };
        known.check(value).map_err(|reason| format!("Invalid value {value} for configuration {name}: {reason}"))
    }

    /// Checks all that is to be set.
    ///
    /// # Errors
    /// What is wrong, for the client.
    pub(super) fn check(&self, configs: &Configs) -> Result<(), Refused> {
        let mut each = configs.iter().map(|(name, value)| self.check_one(name, value));
        each.try_for_each(|checked| checked)
            .and_then(|()| (self.together)(configs))
            .map_err(|reason| (ResponseError::InvalidConfig, reason))
    }
}

/// What a client wants of one configuration (KIP-339).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Set(String),
    /// Back to the default.
    Unset,
    /// To a list.
    Append(String),
    /// From a list.
    Subtract(String),
}

/// What a client wants of a resource's configurations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Changes {
    /// To be exactly these.
    Replace(Configs),
    /// One by one.
    Some(Vec<(String, Change)>),
}

impl Changes {
    /// The configurations after the change.
    ///
    /// # Errors
    /// Some of them cannot be.
    pub(super) fn apply(&self, table: &Table, before: &Configs) -> Result<Configs, Refused> {
        let after = match self {
            Changes::Replace(configs) => configs.clone(),
            Changes::Some(changes) => {
                let mut after = before.clone();
                for (name, change) in changes {
                    change.apply(table, name, &mut after)?;
                }
                after
            }
        };
        table.check(&after)?;
        Ok(after)
    }
}

impl Change {
    fn apply(&self, table: &Table, name: &str, configs: &mut Configs) -> Result<(), Refused> {
        match self {
            Change::Set(value) => {
                configs.insert(name.to_owned(), value.trim().to_owned());
            }
            Change::Unset => {
                configs.remove(name);
            }
            Change::Append(items) => {
                let mut list = list(table, name, configs)?;
                let new: Vec<String> = parts(items).filter(|item| !list.contains(item)).collect();
                list.extend(new);
                configs.insert(name.to_owned(), list.join(","));
            }
            Change::Subtract(items) => {
                let gone: Vec<String> = parts(items).collect();
                let left: Vec<String> = list(table, name, configs)?.into_iter().filter(|item| !gone.contains(item)).collect();
                configs.insert(name.to_owned(), left.join(","));
            }
        }
        Ok(())
    }
}

/// The items of a list as it is, or by default.
fn list(table: &Table, name: &str, configs: &Configs) -> Result<Vec<String>, Refused> {
    let invalid = |reason| Err((ResponseError::InvalidConfig, reason));
    match table.find(name) {
        None => invalid(format!("Unknown {} config name: {name}", table.resource)),
        Some(known) if !known.is_list() => invalid(format!("{name} is not a list, so nothing can be added to it or taken from it")),
        Some(known) => Ok(parts(configs.get(name).map_or(known.default, String::as_str)).collect()),
    }
}

fn parts(list: &str) -> impl Iterator<Item = String> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table {
        resource: "thing",
        configs: &[
            Config::new("fixed", Values::Only(Kind::Boolean, "it never changes"), "false", ""),
            Config::new("letters", Values::ListOf(&["a", "b", "c"]), "a", ""),
            Config::new("number", Values::Int(1, 9), "5", ""),
        ],
        together: |configs| {
            let conflict = configs.get("number").is_some_and(|n| n == "9") && configs.contains_key("letters");
            if conflict { Err("9 and letters do not go together".to_owned()) } else { Ok(()) }
        },
    };

    fn configs(set: &[(&str, &str)]) -> Configs {
        set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn apply(before: &[(&str, &str)], name: &str, change: Change) -> Result<Configs, String> {
        Changes::Some(vec![(name.to_owned(), change)]).apply(&TABLE, &configs(before)).map_err(|(error, reason)| {
            assert_eq!(error, ResponseError::InvalidConfig);
            reason
        })
    }

    #[test]
    fn values_are_set_and_unset() {
        assert_eq!(apply(&[], "number", Change::Set(" 7 ".to_owned())), Ok(configs(&[("number", "7")])));
        assert_eq!(apply(&[("number", "7"), ("letters", "b")], "number", Change::Unset), Ok(configs(&[("letters", "b")])));
        assert_eq!(apply(&[], "no.such", Change::Unset), Ok(configs(&[])));
        assert_eq!(
            Changes::Replace(configs(&[("number", "3")])).apply(&TABLE, &configs(&[("letters", "b")])),
            Ok(configs(&[("number", "3")]))
        );
    }

    #[test]
    fn lists_grow_from_their_default_and_shrink() {
        assert_eq!(apply(&[], "letters", Change::Append("b, a".to_owned())), Ok(configs(&[("letters", "a,b")])));
        assert_eq!(apply(&[("letters", "c,b")], "letters", Change::Subtract("b,x".to_owned())), Ok(configs(&[("letters", "c")])));
        assert!(apply(&[], "letters", Change::Subtract("a".to_owned())).is_err(), "at least one must be left");
        assert!(apply(&[], "number", Change::Append("1".to_owned())).is_err());
        assert!(apply(&[], "no.such", Change::Append("1".to_owned())).is_err());
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        for (name, value, reason) in [
            ("number", "0", "at least 1"),
            ("number", "10", "at most 9"),
            ("number", "x", "not a number"),
            ("letters", "a,a", "a list of a, b, c"),
            ("fixed", "true", "it can only be false: it never changes"),
            ("no.such", "1", "Unknown thing config name: no.such"),
        ] {
            let refused = apply(&[], name, Change::Set(value.to_owned())).expect_err(name);
            assert!(refused.contains(reason), "{refused}");
        }
        assert!(apply(&[("letters", "b")], "number", Change::Set("9".to_owned())).is_err(), "two that do not go together");
    }
}
