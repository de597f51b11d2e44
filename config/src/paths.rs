//! Where settings and data are, by the XDG base directory specification; on macOS in the folders of
//! that system.

use std::path::PathBuf;

use crate::load::Environment;

/// Places for one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The settings file, which need not exist.
    pub settings: PathBuf,
    /// The data directory.
    pub data: PathBuf,
    /// What is remembered between commands and is no data of the shop.
    pub state: PathBuf,
    /// Sockets, where the system has a place for them that ends with the session.
    pub runtime: Option<PathBuf>,
}

/// Neither `HOME` nor the XDG variables are set.
#[derive(Debug, thiserror::Error)]
#[error("the home directory is not known, because HOME is not set")]
pub struct NoHome;

impl Paths {
    /// The places for the user whose environment this is.
    ///
    /// # Errors
    /// [`NoHome`] when the environment does not say where they are.
    pub fn of(env: &Environment) -> Result<Self, NoHome> {
        let home = || env.path("HOME").ok_or(NoHome);
        // Relative paths in XDG variables are to be ignored (specification, "Environment variables").
        let xdg = |variable: &str, fallback: &str| match env.path(variable) {
            Some(path) => Ok(path),
            None => home().map(|home| home.join(fallback)),
        };
        let (config, data, state) = if cfg!(target_os = "macos") {
            let support = "Library/Application Support";
            (
                xdg("XDG_CONFIG_HOME", support)?,
                xdg("XDG_DATA_HOME", support)?,
                xdg("XDG_STATE_HOME", support)?,
            )
        } else {
            (
                xdg("XDG_CONFIG_HOME", ".config")?,
                xdg("XDG_DATA_HOME", ".local/share")?,
                xdg("XDG_STATE_HOME", ".local/state")?,
            )
        };
        Ok(Self {
            settings: config.join("duka").join("config.toml"),
            data: data.join("duka"),
            state: state.join("duka"),
            runtime: env.path("XDG_RUNTIME_DIR").map(|dir| dir.join("duka")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(vars: &[(&str, &str)]) -> Result<Paths, NoHome> {
        Paths::of(&vars.iter().copied().collect())
    }

    #[test]
    fn xdg_variables_win_over_home() {
        let found = paths(&[("HOME", "/users/a"), ("XDG_DATA_HOME", "/data")]).unwrap();
        assert_eq!(found.data, PathBuf::from("/data/duka"));
        assert!(found.settings.starts_with("/users/a"));
    }

    #[test]
    fn relative_xdg_variable_is_ignored() {
        let found = paths(&[("HOME", "/users/a"), ("XDG_DATA_HOME", "data")]).unwrap();
        assert!(found.data.starts_with("/users/a"));
    }

    #[test]
    fn without_home_there_is_no_guess() {
        assert!(paths(&[]).is_err());
    }
}
