//! Certificates of `arcp serve`, and `arcp tls`.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arcp_host::replace_file::{can_replace, replace_file};
use arcp_host::server_log::log;
use arcp_host::stderr::say;
use arcp_host::tls::{Certificates, ClientCertificates};
use rcgen::{CertificateParams, DnType, KeyPair};

use crate::args::Serve;
use crate::exit::{Exit, Failure};

/// The names under which a machine can connect to itself.
const OWN: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Make a TLS certificate.
#[derive(Debug, clap::Subcommand)]
pub enum Tls {
    /// Make a self-signed certificate and its key, to try TLS. Clients trust it with
    /// `--ca`.
    SelfSigned(SelfSigned),
}

/// Make a self-signed certificate.
#[derive(Debug, clap::Args)]
pub struct SelfSigned {
    /// A host name or address of the runtime; may be repeated [default: localhost,
    /// 127.0.0.1 and ::1].
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// The folder for arcp-cert.pem and arcp-key.pem.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub out: PathBuf,
    /// Replace existing files.
    #[arg(long)]
    pub overwrite: bool,
}

/// Makes certificates.
pub fn run(args: &Tls) -> Result<Exit, Failure> {
    match args {
        Tls::SelfSigned(args) => self_signed(args),
    }
}

fn self_signed(args: &SelfSigned) -> Result<Exit, Failure> {
    let hosts = if args.hosts.is_empty() { OWN.map(str::to_string).to_vec() } else { args.hosts.clone() };
    let of_hosts = CertificateParams::new(hosts.clone());
    let mut made = of_hosts.map_err(|error| Failure::usage(format!("--host {}: {error}", hosts.join(" --host "))))?;
    made.distinguished_name.push(DnType::CommonName, "arcp tls self-signed");
    let unmade = |error: rcgen::Error| Failure::new(Exit::Failed, format!("no certificate could be made: {error}"));
    let pair = KeyPair::generate().map_err(unmade)?;
    let made = made.self_signed(&pair).map_err(unmade)?;
    fs::create_dir_all(&args.out)?;
    let (certificate, key) = (args.out.join("arcp-cert.pem"), args.out.join("arcp-key.pem"));
    if let Some(there) = [&certificate, &key].into_iter().find(|file| file.exists() && !args.overwrite) {
        let message = format!("{} is there already: give another --out, or --overwrite", there.display());
        return Err(Failure::new(Exit::Failed, message));
    }
    write(&key, &pair.serialize_pem(), 0o600)?;
    write(&certificate, &made.pem(), 0o644)?;
    writeln!(io::stdout(), "{}\n{}", certificate.display(), key.display())?;
    let (certificate, key) = (certificate.display(), key.display());
    say(format_args!("arcp: serve with: arcp serve --tls-cert {certificate} --tls-key {key}"));
    say(format_args!("arcp: clients elsewhere need the certificate: --url wss://HOST:PORT --ca {certificate}"));
    Ok(Exit::Success)
}

/// Writes a new file, which no other process can have open.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<(), Failure> {
    replace_file(path, mode, text.as_bytes()).map_err(|error| unwritable(path, &error))
}

/// Checks that the file can be written; an existing file stays as it is.
pub fn can_write(path: &Path) -> Result<(), Failure> {
    can_replace(path).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Failed, format!("{}: {error}", path.display()))
}

/// The certificate and key of the server.
pub fn certificates(args: &Serve) -> Result<Option<Arc<Certificates>>, Failure> {
    let Some((certificate, key)) = args.tls.tls_cert.as_deref().zip(args.tls.tls_key.as_deref()) else {
        return Ok(None);
    };
    let clients = args.tls.tls_client_ca.clone().map(|authorities| ClientCertificates {
        authorities,
        revoked: args.tls.tls_client_crl.clone(),
        names: args.tls.tls_client_names.clone(),
    });
    if let Some(clients) = clients {
        let read = Certificates::read_with_clients(certificate, key, clients);
        return read.map(|read| Some(Arc::new(read))).map_err(|error| Failure::usage(format!("TLS: {error}")));
    }
    let read = Certificates::read(certificate, key);
    let read = read.map_err(|error| {
        Failure::usage(format!("--tls-cert, --tls-key: {error} (`arcp tls self-signed` makes a pair to try)"))
    })?;
    if fs::metadata(key).is_ok_and(|about| about.mode() & 0o007 != 0) {
        log(format_args!("arcp: everybody on this machine can read --tls-key {}: chmod 600 it", key.display()));
    }
    Ok(Some(Arc::new(read)))
}

/// The file of the certificate, by which commands of this user verify the runtime.
pub fn certificate_of(args: &Serve) -> Option<PathBuf> {
    std::path::absolute(args.tls.tls_cert.as_ref()?).ok()
}

/// Reads the certificate and key again, after a SIGHUP.
pub fn read_again(certificates: &Certificates) {
    match certificates.read_again() {
        Ok(()) => log(format_args!("arcp: SIGHUP: the certificate was read again; sessions go on")),
        Err(error) => log(format_args!("arcp: SIGHUP: the certificate stays as it was: {error}")),
    }
}
