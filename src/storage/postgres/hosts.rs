//! The servers that a URL names. Each is tried for a part of the time only, so that one that is silent does not keep the
//! others from being tried.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

#[derive(Debug)]
pub(super) struct Hosts {
    configs: Vec<Config>,
    /// The one that was connected to last.
    newest: AtomicUsize,
}

impl Hosts {
    pub(super) fn of(config: &Config) -> Self {
        let count = config.get_hosts().len().max(config.get_hostaddrs().len());
        let configs = match count {
            0 | 1 => vec![config.clone()],
            _ => (0..count).map(|at| with_host(config, at)).collect(),
        };
        Self {
            configs,
            newest: AtomicUsize::new(0),
        }
    }

    /// The configurations of all servers with their numbers. That of the last connection comes first.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (usize, &Config)> {
        let newest = self.newest.load(Ordering::Relaxed);
        let all = self.configs.iter().enumerate();
        all.clone().skip(newest).chain(all.take(newest))
    }

    /// How long one server is tried, of so much time for all. A part is left for another round.
    pub(super) fn limit(&self, time: Duration) -> Duration {
        match u32::try_from(self.configs.len()) {
            Ok(0 | 1) => time,
            Ok(count) => time / count.saturating_add(1),
            Err(_) => Duration::ZERO,
        }
    }

    /// Notes that a server was connected to.
    pub(super) fn note(&self, at: usize) {
        self.newest.store(at, Ordering::Relaxed);
    }
}

/// The configuration with one of its servers.
fn with_host(config: &Config, at: usize) -> Config {
    let mut one = Config::new();
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(database) = config.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    match config.get_hosts().get(at) {
        Some(Host::Tcp(host)) => drop(one.host(host)),
        #[cfg(unix)]
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().get(at) {
        one.hostaddr(*address);
    }
    let ports = config.get_ports();
    if let Some(port) = ports.get(at).or_else(|| ports.first()) {
        one.port(*port);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        one.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding());
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Hosts {
        Hosts::of(&url.parse().unwrap())
    }

    // C10.2
    #[test]
    fn each_server_gets_a_part_of_the_time_and_the_last_one_is_tried_first() {
        let url = "postgres://app:secret@db1:5433,db2,db3:5434/shop?sslmode=require&connect_timeout=7\
                   &options=-c%20x%3Dy&tcp_user_timeout=3&target_session_attrs=read-write\
                   &keepalives_idle=9&application_name=a&channel_binding=require";
        let three = hosts(url);
        let named = |hosts: &Hosts| -> Vec<_> {
            let all = hosts.in_order();
            all.map(|(_, it)| (it.get_hosts().to_vec(), it.get_ports().to_vec()))
                .collect()
        };
        let host = |name: &str, port| (vec![Host::Tcp(name.into())], vec![port]);
        let in_url = [host("db1", 5433), host("db2", 5432), host("db3", 5434)];
        assert_eq!(named(&three), in_url);
        three.note(2);
        assert_eq!(named(&three)[0], in_url[2]);
        assert_eq!(named(&three).len(), 3);
        assert_eq!(three.limit(Duration::from_secs(8)), Duration::from_secs(2));

        // Nothing else of the URL is lost.
        let alone = url.replace("db1:5433,db2,db3:5434", "db2:5432");
        let (_, second) = hosts(url)
            .in_order()
            .nth(1)
            .map(|(n, it)| (n, it.clone()))
            .unwrap();
        let alone: Config = alone.parse().unwrap();
        assert_eq!(second, alone);
        let one = hosts("postgres://app@db1/shop");
        assert_eq!(one.limit(Duration::from_secs(8)), Duration::from_secs(8));
    }
}
