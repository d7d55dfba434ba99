//! Whether and when the node runs.

use core::str::FromStr;

/// Whether and when the DHT node runs. The names are the values of rTorrent's `dht` option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DhtMode {
    /// Never; later commands cannot start it.
    Disable,
    /// Not until it is switched on.
    #[default]
    Off,
    /// From the start of the first torrent that is not private until a while after the last one.
    Auto,
    /// Always, from the beginning.
    On,
}

impl core::fmt::Display for DhtMode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Disable => "disable",
            Self::Off => "off",
            Self::Auto => "auto",
            Self::On => "on",
        })
    }
}

/// The value is not one of the option's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidArgument;

impl core::fmt::Display for InvalidArgument {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Invalid argument.")
    }
}

impl core::error::Error for InvalidArgument {}

impl FromStr for DhtMode {
    type Err = InvalidArgument;

    fn from_str(word: &str) -> Result<Self, InvalidArgument> {
        match word {
            "disable" => Ok(Self::Disable),
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            _ => Err(InvalidArgument),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn s01_modes_are_the_four_words_and_nothing_else() {
        for word in ["disable", "off", "auto", "on"] {
            assert_eq!(word.parse::<DhtMode>().unwrap().to_string(), word);
        }
        for word in ["", "On", "yes", "on ", "1"] {
            let error = word.parse::<DhtMode>().unwrap_err();
            assert_eq!(error.to_string(), "Invalid argument.");
        }
        assert_eq!(DhtMode::default(), DhtMode::Off);
    }
}
