//! Certificates for tests: pairs that nobody vouches for, and authorities that vouch
//! for clients, and change their mind.

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

/// A certificate that nobody vouches for, and its key.
pub struct Pair {
    /// Where both files are.
    pub folder: Folder,
}

impl Pair {
    /// One for these hosts, in a folder by a name that no other test has.
    pub fn new(name: &str, hosts: &[&str]) -> Pair {
        let pair = Pair { folder: Folder::new(name) };
        pair.renew(hosts);
        pair
    }

    /// Makes another, in the same files.
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

    /// What a server shows.
    pub fn read(&self) -> Arc<Certificates> {
        Arc::new(Certificates::read(&self.certificate(), &self.key()).expect("a pair"))
    }

    /// Trusts it.
    pub fn security(&self) -> Security {
        Security { trust: Trust::Authorities(self.certificate()), ..Security::default() }
    }
}

/// An authority that issues certificates to clients.
pub struct Authority {
    /// Where its files are, and those of whom it issues certificates to.
    pub folder: Folder,
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    /// One whose folder has a name that no other test has.
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

    /// Issues a certificate with these URIs and DNS names; gives its fingerprint too.
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

    /// Says which serial numbers count no more.
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

    /// What a server reads of it.
    pub fn clients(&self, names: Option<&str>) -> ClientCertificates {
        let names = names.map(|text| {
            let file = self.folder.0.join("names");
            fs::write(&file, text).expect("written");
            file
        });
        let file = |name: &str| self.folder.0.join(name);
        ClientCertificates { authorities: file("ca.pem"), revoked: Some(file("crl.pem")), names }
    }

    /// What a server shows that knows its clients so.
    pub fn certificates(&self, pair: &Pair, names: Option<&str>) -> Arc<Certificates> {
        let read = Certificates::read_with_clients(&pair.certificate(), &pair.key(), self.clients(names));
        Arc::new(read.expect("they can be read"))
    }
}
