//! Configuration comes from the environment only and is checked at start. All problems are reported at once.

use std::{fmt, fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use crate::service::Service;

/// Reads variables and collects what is wrong with them. A bad value yields the default, so that reading goes on.
pub struct Reader<'a> {
    service: Service,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

/// Every problem found in the environment. It never repeats a secret value.
#[derive(Debug)]
pub struct ConfigError {
    name: &'static str,
    manual: &'static str,
    /// One sentence per problem, each starting with the variable's name.
    pub problems: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Reads any source of variables.
    pub fn new(service: Service, lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            service,
            lookup,
            problems: Vec::new(),
        }
    }

    /// The service whose settings these are.
    pub fn service(&self) -> Service {
        self.service
    }

    /// The value, unless anything that was read is wrong.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        match value {
            Some(value) if self.problems.is_empty() => Ok(value),
            _ => Err(ConfigError {
                name: self.service.name,
                manual: self.service.manual,
                problems: self.problems,
            }),
        }
    }

    /// The value without surrounding blanks. An empty value counts as not set, as in an `.env` file.
    pub fn text(&self, name: &str) -> Option<String> {
        (self.lookup)(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty())
    }

    /// The absolute path of a file or folder.
    pub fn path(&mut self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.text(name)?);
        if !path.is_absolute() {
            self.problem(name, "must be an absolute path");
        }
        Some(path)
    }

    /// Notes what is wrong with a variable. The text must not repeat its value.
    pub fn problem(&mut self, name: &str, what: impl Display) {
        let problem = format!("{name} {what}");
        // Two domains may read the same variable.
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// A value of any type with a text form; `shape` says what it looks like.
    pub fn parsed<T: FromStr>(&mut self, name: &str, default: &str, shape: &str) -> T
    where
        T::Err: fmt::Debug,
    {
        if let Some(text) = self.text(name) {
            match text.parse() {
                Ok(value) => return value,
                Err(_) => self.problem(name, format_args!("must be {shape}")),
            }
        }
        default.parse().expect("the default is valid")
    }

    /// A whole number within the range.
    pub fn number(&mut self, name: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(text) = self.text(name) else {
            return default;
        };
        match text.parse() {
            Ok(value) if range.contains(&value) => value,
            _ => {
                let (least, most) = (range.start(), range.end());
                self.problem(
                    name,
                    format_args!("must be a whole number from {least} to {most}"),
                );
                default
            }
        }
    }

    /// A number of seconds within the range.
    pub fn seconds(&mut self, name: &str, default: u64, range: RangeInclusive<u64>) -> Duration {
        Duration::from_secs(self.number(name, default, range))
    }

    /// A number of milliseconds within the range.
    pub fn millis(&mut self, name: &str, default: u64, range: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(name, default, range))
    }

    /// `1` or `0`; off by default.
    pub fn flag(&mut self, name: &str) -> bool {
        match self.text(name).as_deref() {
            None | Some("0" | "false") => false,
            Some("1" | "true") => true,
            Some(_) => {
                self.problem(name, "must be 1 or 0");
                false
            }
        }
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} cannot start, its environment needs attention ({}):",
            self.name, self.manual
        )?;
        self.problems
            .iter()
            .try_for_each(|problem| writeln!(f, "  {problem}"))
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(lookup: &dyn Fn(&str) -> Option<String>) -> Reader<'_> {
        Reader::new(Service::TEST, lookup)
    }

    #[test]
    fn an_empty_value_counts_as_not_set() {
        let lookup = |_: &str| Some(" ".to_owned());
        let mut env = reader(&lookup);
        assert_eq!(env.text("A"), None);
        assert_eq!(env.number("A", 7, 1..=9), 7);
        assert!(!env.flag("A"));
        assert!(env.finish(Some(())).is_ok());
    }

    #[test]
    fn all_problems_come_at_once_and_repeat_no_value() {
        let lookup = |_: &str| Some("hunter2".to_owned());
        let mut env = reader(&lookup);
        env.number("A", 7, 1..=9);
        env.flag("B");
        env.parsed::<std::net::SocketAddr>("C", "127.0.0.1:1", "an address");
        let error = env.finish(Some(())).unwrap_err();
        let names: Vec<_> = error.problems.iter().map(|problem| &problem[..1]).collect();
        assert_eq!(names, ["A", "B", "C"]);
        let text = error.to_string();
        assert!(text.contains("docs/test.md") && !text.contains("hunter2"));
    }
}
