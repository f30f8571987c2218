//! Certificates for tests: self-signed pairs, and authorities that issue certificates to clients and revoke them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arcp_blocking::{Identity, Security, Trust};
use arcp_host::tls::{Certificates, ClientCertificates};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use sha2::{Digest as _, Sha256};

use crate::kept::Folder;

/// A self-signed certificate and its key.
pub struct Pair {
    /// The folder of both files.
    pub folder: Folder,
}

impl Pair {
    /// A new pair for these hosts, in a folder whose name no other test uses.
    pub fn new(name: &str, hosts: &[&str]) -> Pair {
        let pair = Pair { folder: Folder::new(name) };
        pair.renew(hosts);
        pair
    }

    /// Replaces the pair, in the same files.
    pub fn renew(&self, hosts: &[&str]) {
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(hosts).expect("a certificate");
        fs::write(self.certificate(), made.cert.pem()).expect("written");
        fs::write(self.key(), made.signing_key.serialize_pem()).expect("written");
    }

    /// The file of the certificate.
    pub fn certificate(&self) -> PathBuf {
        self.folder.0.join("cert.pem")
    }

    /// The file of the key.
    pub fn key(&self) -> PathBuf {
        self.folder.0.join("key.pem")
    }

    /// The certificate and key for a server.
    pub fn read(&self) -> Arc<Certificates> {
        Arc::new(Certificates::read(&self.certificate(), &self.key()).expect("a pair"))
    }

    /// The settings of a client that trusts this certificate.
    pub fn security(&self) -> Security {
        Security { trust: Trust::Authorities(self.certificate()), ..Security::default() }
    }
}

/// An authority that issues certificates to clients.
pub struct Authority {
    /// The folder of its files and of issued certificates.
    pub folder: Folder,
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    /// A new authority, in a folder whose name no other test uses.
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "the same name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let (folder, key) = (Folder::new(name), KeyPair::generate().expect("a key"));
        fs::write(folder.0.join("ca.pem"), params.self_signed(&key).expect("a certificate").pem()).expect("written");
        let authority = Authority { folder, params, key };
        authority.revoke(&[]);
        authority
    }

    /// Issues a certificate with these URIs and DNS names. Also returns its fingerprint.
    pub fn issue(&self, serial: u64, names: &[&str], change: fn(&mut CertificateParams)) -> (Identity, String) {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.serial_number = Some(SerialNumber::from(serial));
        let san = |name: &&str| {
            let text = (*name).try_into().expect("ASCII");
            if name.contains(':') { SanType::URI(text) } else { SanType::DnsName(text) }
        };
        params.subject_alt_names = names.iter().map(san).collect();
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let issued = params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).expect("a certificate");
        let file = |name: &str| self.folder.0.join(format!("{serial}-{name}.pem"));
        fs::write(file("cert"), issued.pem()).expect("written");
        fs::write(file("key"), key.serialize_pem()).expect("written");
        let digits: String = Sha256::digest(issued.der()).iter().map(|byte| format!("{byte:02X}")).collect();
        (Identity { certificates: file("cert"), key: file("key") }, digits)
    }

    /// Publishes a revocation list with these serial numbers.
    pub fn revoke(&self, serials: &[u64]) {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&Issuer::from_params(&self.params, &self.key)).expect("a list");
        fs::write(self.folder.0.join("crl.pem"), list.pem().expect("PEM")).expect("written");
    }

    /// The settings of a server that verifies clients with this authority.
    pub fn clients(&self, names: Option<&str>) -> ClientCertificates {
        let names = names.map(|text| {
            let file = self.folder.0.join("names");
            fs::write(&file, text).expect("written");
            file
        });
        let file = |name: &str| self.folder.0.join(name);
        ClientCertificates { authorities: file("ca.pem"), revoked: Some(file("crl.pem")), names }
    }

    /// The certificates of a server that verifies clients with this authority.
    pub fn certificates(&self, pair: &Pair, names: Option<&str>) -> Arc<Certificates> {
        let read = Certificates::read_with_clients(&pair.certificate(), &pair.key(), self.clients(names));
        Arc::new(read.expect("they can be read"))
    }
}
