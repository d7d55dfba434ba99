//! The ports from which connections are made.

/// The first ephemeral port (RFC 6335 §6).
pub(crate) const EPHEMERAL: u16 = 49152;

/// The first ephemeral port from `start` on, wrapping around, that is not `used`.
pub(crate) fn free_port(start: u16, used: impl Fn(u16) -> bool) -> Option<u16> {
    (start..=u16::MAX)
        .chain(EPHEMERAL..start)
        .find(|port| !used(*port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_for_a_port_ends_when_all_are_used() {
        assert_eq!(free_port(60_000, |_| true), None);
        assert_eq!(free_port(60_000, |port| port != 50_000), Some(50_000));
        assert_eq!(
            free_port(u16::MAX, |port| port == u16::MAX),
            Some(EPHEMERAL)
        );
        assert_eq!(free_port(60_000, |port| port < 60_010), Some(60_010));
    }
}
