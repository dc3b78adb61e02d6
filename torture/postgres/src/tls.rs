//! Certificates for a server, made by the openssl command.

use crate::folder::Folder;
use crate::install::run;
use std::path::PathBuf;
use std::process::Command;

/// The names that a client may know the server by.
const NAMES: &str = "subjectAltName=DNS:localhost,IP:127.0.0.1\n";

/// An authority of its own, and the server's certificate, which is signed by it.
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    pub(crate) server: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    pub(crate) fn make(folder: &Folder) -> Self {
        let path = |name: &str| folder.path().join(name);
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            run(command
                .args(arguments.split(' '))
                .current_dir(folder.path()))
        };
        folder.write("names", NAMES);
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&format!(
            "req -x509 {new} -days 30 -subj /CN=authority -keyout authority.key -out authority.pem"
        ));
        openssl(&format!(
            "req {new} -subj /CN=localhost -keyout server.key -out server.csr"
        ));
        openssl(
            "x509 -req -in server.csr -CA authority.pem -CAkey authority.key -CAcreateserial -days 30 -extfile names \
             -out server.pem",
        );
        let made = Self {
            authority: path("authority.pem"),
            server: path("server.pem"),
            key: path("server.key"),
        };
        folder.own(&made.server);
        folder.own(&made.key);
        made
    }
}
