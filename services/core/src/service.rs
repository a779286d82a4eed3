//! Which program this is.

/// One program built on this library.
#[derive(Debug, Clone, Copy)]
pub struct Service {
    /// Its name, as in logs, connections and user agents.
    pub name: &'static str,
    /// The version of this build.
    pub version: &'static str,
    /// The page of the documentation that explains its settings.
    pub manual: &'static str,
    /// Where it listens by default.
    pub listeners: Listeners,
    /// Whether its handlers read bodies as they come, and bound their size and time themselves.
    pub streams: bool,
    /// Whether it makes spans of OpenTelemetry, and so reads where they go.
    pub traces: bool,
}

/// The two addresses: the variable that sets each, and its default.
#[derive(Debug, Clone, Copy)]
pub struct Listeners {
    /// For the proxy in front of it.
    pub public: (&'static str, &'static str),
    /// For operators only.
    pub operators: (&'static str, &'static str),
}

#[cfg(test)]
impl Service {
    /// A service for tests.
    pub(crate) const TEST: Self = Self {
        name: "kijko-test",
        version: "1.2.3",
        manual: "docs/test.md",
        listeners: Listeners {
            public: ("TEST_BIND", "127.0.0.1:0"),
            operators: ("TEST_OPERATORS_BIND", "127.0.0.1:0"),
        },
        streams: false,
        traces: false,
    };
}
