//! What a DAG may ask of whoever takes it apart.
//!
//! Decoders know no settings, and these limits are the same wherever in the process a DAG is read: they are chosen
//! once, by whoever starts it.

use std::sync::OnceLock;

use duka_config::DagConfig;

static CHOSEN: OnceLock<DagLimits> = OnceLock::new();

/// Limits of what others made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DagLimits {
    /// Levels of links below a root.
    pub depth: usize,
    /// Children of one shard of a HAMT directory.
    pub hamt_width: u64,
    /// Segments of a path.
    pub path_segments: usize,
    /// Bytes of one section of a CAR: a CID and its block.
    pub car_section: u64,
    /// Bytes that a CID may carry itself.
    pub identity: usize,
}

impl DagLimits {
    const DEFAULT: Self = Self {
        depth: 1024,
        hamt_width: 1024,
        path_segments: 1024,
        car_section: (2 << 20) + 1024,
        identity: 128,
    };

    /// Those of the settings.
    pub fn of(config: &DagConfig) -> Self {
        Self {
            depth: config.depth,
            hamt_width: config.hamt_width,
            path_segments: config.path_segments,
            car_section: config.car_section.as_u64(),
            identity: usize::try_from(config.identity.as_u64()).unwrap_or(usize::MAX),
        }
    }

    /// Has the process keep to these. The first choice stays.
    pub fn choose(self) {
        CHOSEN.get_or_init(|| self);
    }

    /// Those that were chosen, or the defaults.
    pub fn current() -> Self {
        CHOSEN.get().copied().unwrap_or(Self::DEFAULT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_the_settings() {
        let defaults = duka_config::Config::default();
        assert_eq!(DagLimits::of(&defaults.dag), DagLimits::DEFAULT);
    }
}
