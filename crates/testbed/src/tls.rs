use std::fs::{self, Permissions};
use std::io;
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
    /// Writes new ones for `localhost` and 127.0.0.1 into `folder`, as files of `owner` (a user and
    /// group, by number) or else of this user.
    pub(crate) fn create(folder: &Path, owner: Option<(u32, u32)>) -> Result<Self, Error> {
        let files = Self {
            authority: folder.join("ca.pem"),
            certificate: folder.join("server.pem"),
            key: folder.join("server.key"),
        };
        let [authority, certificate, key] =
            generate().map_err(Error::because("cannot make a certificate"))?;

        let write = |file: &Path, pem: String| -> io::Result<()> {
            fs::write(file, pem)?;
            // PostgreSQL refuses a key that others can read.
            fs::set_permissions(file, Permissions::from_mode(0o600))?;
            let (user, group) = owner.unzip();
            chown(file, user, group)
        };
        write(&files.authority, authority)
            .and_then(|()| write(&files.certificate, certificate))
            .and_then(|()| write(&files.key, key))
            .map_err(Error::because("cannot write a certificate"))?;
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
