//! The DNS servers that are asked: the one of the settings, or those of the system, which change when the
//! machine comes into another network.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::parse_resolv_conf;
use hickory_resolver::{Resolver, TokioResolver};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;

use super::MAX_LOOKUPS;

/// Where the system names its servers.
const SYSTEM: &str = "/etc/resolv.conf";
/// Most bytes of that file.
const MAX_FILE: u64 = 64 << 10;
/// How long what was read of it counts.
const READ_AGAIN: Duration = Duration::from_secs(5);
/// For one answer of a server, before the question is repeated.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Servers, and how they are asked.
pub(super) struct Asked {
    pub(super) resolver: TokioResolver,
    /// Their addresses, for a person.
    pub(super) names: String,
}

/// Whom to ask.
pub(super) enum Servers {
    Chosen(Arc<Asked>),
    System(Box<System>),
}

/// The servers of the system.
pub(super) struct System {
    file: PathBuf,
    read: Mutex<Read>,
}

/// What was read of the file, and when.
#[derive(Default)]
struct Read {
    at: Option<Instant>,
    contents: Vec<u8>,
    asked: Option<Arc<Asked>>,
}

impl Servers {
    /// `chosen`, or those of the system.
    pub(super) fn new(chosen: Option<SocketAddr>) -> Result<Self, NetError> {
        let Some(chosen) = chosen else {
            return Ok(Self::System(Box::new(System::new(SYSTEM))));
        };
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
        let connections = connections.map(|mut connection| {
            connection.port = chosen.port();
            connection
        });
        let server = NameServerConfig::new(chosen.ip(), true, connections.into());
        let config = ResolverConfig::from_name_servers(vec![server]);
        let asked = Asked::new(config, chosen.to_string())?;
        Ok(Self::Chosen(Arc::new(asked)))
    }

    /// Those that are there now; `None` when the system names none.
    pub(super) async fn now(&self) -> Option<Arc<Asked>> {
        match self {
            Self::Chosen(asked) => Some(Arc::clone(asked)),
            Self::System(system) => system.now().await,
        }
    }
}

impl System {
    fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            read: Mutex::default(),
        }
    }

    async fn now(&self) -> Option<Arc<Asked>> {
        let mut read = self.read.lock().await;
        if read.at.is_none_or(|at| at.elapsed() >= READ_AGAIN) {
            self.read_again(&mut read).await;
        }
        read.asked.clone()
    }

    /// Takes the servers that the file names by now. What cannot be used is logged once, and those from
    /// before stay.
    async fn read_again(&self, read: &mut Read) {
        let contents = contents(&self.file).await;
        read.at = Some(Instant::now());
        let file = self.file.display();
        let contents = match contents {
            Ok(contents) if contents == read.contents => return,
            Ok(contents) => contents,
            Err(error) => return tracing::debug!(%file, %error, "the DNS servers cannot be read"),
        };
        match servers_in(&contents) {
            Ok(asked) => {
                tracing::info!(servers = %asked.names, "the DNS servers of the system were read");
                read.asked = Some(Arc::new(asked));
            }
            Err(error) => tracing::warn!(%file, %error, "no DNS server is named there"),
        }
        read.contents = contents;
    }
}

impl Asked {
    fn new(config: ResolverConfig, names: String) -> Result<Self, NetError> {
        let provider = TokioRuntimeProvider::default();
        let mut builder = Resolver::builder_with_config(config, provider);
        let options = builder.options_mut();
        options.timeout = ANSWER_TIME;
        options.attempts = 1;
        options.use_hosts_file = ResolveHosts::Never;
        options.max_active_requests = MAX_LOOKUPS;
        // Answers are kept here, as content paths.
        options.cache_size = 0;
        Ok(Self {
            resolver: builder.build()?,
            names,
        })
    }
}

async fn contents(file: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    let file = File::open(file).await?;
    file.take(MAX_FILE).read_to_end(&mut contents).await?;
    Ok(contents)
}

fn servers_in(contents: &[u8]) -> Result<Asked, NetError> {
    let (config, _) = parse_resolv_conf(contents)?;
    let servers = config.name_servers().iter();
    let names: Vec<String> = servers.map(|server| server.ip.to_string()).collect();
    Asked::new(config, names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whom it asks when what was read of the file counts no more.
    async fn later(system: &System) -> Option<String> {
        system.read.lock().await.at = None;
        system.now().await.map(|asked| asked.names.clone())
    }

    #[tokio::test]
    async fn servers_are_those_that_the_system_names_by_now() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("resolv.conf");
        let system = System::new(&file);
        assert_eq!(later(&system).await, None);
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("nameserver 192.0.2.1\nnameserver 2001:db8::1\n");
        assert_eq!(later(&system).await.unwrap(), "192.0.2.1, 2001:db8::1");
        write("search example\nnameserver 192.0.2.2\n");
        let asked = system.now().await.unwrap();
        assert_eq!(asked.names, "192.0.2.1, 2001:db8::1", "not each time");
        assert_eq!(later(&system).await.unwrap(), "192.0.2.2");
        for nothing in ["", "nameserver \n"] {
            write(nothing);
            assert_eq!(later(&system).await.unwrap(), "192.0.2.2", "{nothing:?}");
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(later(&system).await.unwrap(), "192.0.2.2");
    }
}
