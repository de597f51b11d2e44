//! nginx with static files.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use duka_tests::locate;
use duka_tests::process::{Process, wait_until};
use tempfile::TempDir;

#[derive(Debug)]
pub(super) struct Nginx {
    pub(super) process: Process,
    pub(super) url: String,
    _folder: TempDir,
}

impl Nginx {
    pub(super) fn start(site: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let own = folder.path().to_str().context("a text path")?;
        let socket = TcpListener::bind("127.0.0.1:0")?;
        // nginx cannot say which port it was given; this one was free a moment ago.
        let port = socket.local_addr()?.port();
        drop(socket);
        let user = if rustix::process::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let site = site.to_str().context("a text path")?;
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {own}/{kind};\n"))
            .collect();
        let config = format!(
            "daemon off; worker_processes 2; pid {own}/pid; error_log {own}/error; {user}\n\
             events {{ worker_connections 16384; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
             {temporary}server {{ listen 127.0.0.1:{port} backlog=4096; root {site}; }} }}\n"
        );
        let path = folder.path().join("nginx.conf");
        fs::write(&path, config)?;
        let mut command = Command::new(locate::system("nginx")?);
        let process = Process::start("nginx", command.arg("-c").arg(&path))?;
        let url = format!("http://127.0.0.1:{port}");
        wait_until("nginx listens", Duration::from_secs(10), || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        })?;
        Ok(Self {
            process,
            url,
            _folder: folder,
        })
    }
}
