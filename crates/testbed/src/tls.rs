use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::Error;

/// A certificate authority that nobody else trusts, and a server's certificate by it, as files.
#[derive(Clone)]
pub(crate) struct Certificates {
    pub(crate) authority: PathBuf,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Certificates {
    /// Writes new ones for `localhost` and 127.0.0.1 into `folder`, with a key that only `owner`
    /// (a user and group, by number) or else this user can read.
    pub(crate) fn create(folder: &Path, owner: Option<(u32, u32)>) -> Result<Self, Error> {
        let files = Self {
            authority: folder.join("ca.pem"),
            certificate: folder.join("server.pem"),
            key: folder.join("server.key"),
        };
        let [authority, certificate, key] =
            generate().map_err(Error::because("cannot make a certificate"))?;

        let write = || -> std::io::Result<()> {
            fs::write(&files.authority, authority)?;
            fs::write(&files.certificate, certificate)?;
            fs::write(&files.key, key)?;
            fs::set_permissions(&files.key, Permissions::from_mode(0o600))?;
            match owner {
                Some((user, group)) => chown(&files.key, Some(user), Some(group)),
                None => Ok(()),
            }
        };
        write().map_err(Error::because("cannot write a certificate"))?;
        Ok(files)
    }
}

fn generate() -> Result<[String; 3], rcgen::Error> {
    let mut authority = CertificateParams::new([])?;
    authority
        .distinguished_name
        .push(DnType::CommonName, "testbed authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    server
        .distinguished_name
        .push(DnType::CommonName, "testbed server");
    server.use_authority_key_identifier_extension = true;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &authority)?;

    Ok([authority.pem(), certificate.pem(), key.serialize_pem()])
}
