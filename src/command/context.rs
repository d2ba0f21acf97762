//! The admin context: which controller is asked, how it is known, and who asks.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use config::resource::Address;
use controller::global::AdminContext;
use controller::http::CLIENT_ALPN;
use controller::http::client::Client;
use identity::files::{FileError, read_private};
use identity::pem::decode_certificates;
use rustls::crypto::ring::default_provider;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};

/// How to get a context.
const REMEDY: &str = "the controller's first start writes one: copy it here from the controller's machine, or name it \
                      with --context or TOMBOLO_CONTEXT";

/// Which context counts.
#[derive(clap::Args)]
pub struct ContextArgs {
    /// The admin context, as the controller's first start wrote it [default: tombolo/context.yaml in the user's
    /// config folder]
    #[arg(long, env = "TOMBOLO_CONTEXT", value_name = "FILE", hide_env_values = true)]
    context: Option<PathBuf>,
}

impl ContextArgs {
    /// Where the context is.
    ///
    /// # Errors
    /// When none is named and the user has no config folder.
    pub fn path(&self) -> Result<PathBuf> {
        let named = self.context.clone().filter(|path| !path.as_os_str().is_empty());
        named
            .or_else(default_path)
            .with_context(|| format!("there is no HOME to look for an admin context in; {REMEDY}"))
    }
}

/// Where the context is unless another is named: below `$XDG_CONFIG_HOME` or `~/.config`.
pub fn default_path() -> Option<PathBuf> {
    default_path_in(|variable| env::var_os(variable).map(PathBuf::from))
}

/// A relative `XDG_CONFIG_HOME` doesn't count, as the XDG Base Directory Specification asks.
fn default_path_in(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(folder.join("tombolo").join("context.yaml"))
}

/// A client for the controller of the context in this file.
///
/// # Errors
/// When the file isn't there, isn't private, or is no context.
pub fn client(path: &Path) -> Result<Client> {
    let AdminContext { server, ca, token } = read(path)?;
    let wrong = |what: &str| format!("{}: {what}; {REMEDY}", path.display());
    let address = address(&server).with_context(|| wrong("server is not https://HOST:PORT"))?;
    let config = tls(&ca).with_context(|| wrong("ca is not a certificate in PEM"))?;
    Ok(Client::fixed(address, config).with_bearer(token))
}

/// Reads a context.
///
/// # Errors
/// When the file isn't there, isn't private, or is no context.
pub fn read(path: &Path) -> Result<AdminContext> {
    let bytes = read_private(path).map_err(|error| match error {
        FileError::Io(_, _, cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            anyhow!("there is no admin context at {}; {REMEDY}", path.display())
        }
        other => anyhow!("{other}"),
    })?;
    let text = std::str::from_utf8(&bytes).with_context(|| format!("{} is no text; {REMEDY}", path.display()))?;
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false; // it could show the token
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(context) => Ok(context),
        Err(error) => bail!("{} is no admin context: {}; {REMEDY}", path.display(), error.without_snippet()),
    }
}

fn address(server: &str) -> Result<Address> {
    let rest = server.strip_prefix("https://").with_context(|| format!("{server:?} doesn't begin with https://"))?;
    Ok(rest.strip_suffix('/').unwrap_or(rest).parse()?)
}

/// Trusts the CA of the context and no other, for whom it says the server is: its name or IP address.
fn tls(ca: &str) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    decode_certificates(ca)?.into_iter().try_for_each(|certificate| roots.add(certificate))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = CLIENT_ALPN.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use controller::global::write_admin_context;

    use super::*;

    fn ca() -> String {
        rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap().cert.pem()
    }

    fn said(error: &anyhow::Error) -> String {
        error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }

    #[test]
    fn the_users_config_folder_is_found() {
        let path = |xdg: &'static str, home: &'static str| {
            default_path_in(|variable| match variable {
                "XDG_CONFIG_HOME" => Some(xdg.into()).filter(|_| !xdg.is_empty()),
                _ => Some(home.into()).filter(|_| !home.is_empty()),
            })
        };
        assert_eq!(path("/xdg", "/home/ada"), Some("/xdg/tombolo/context.yaml".into()));
        assert_eq!(path("", "/home/ada"), Some("/home/ada/.config/tombolo/context.yaml".into()));
        assert_eq!(path("relative", "/home/ada"), Some("/home/ada/.config/tombolo/context.yaml".into()));
        assert_eq!(path("", ""), None);
    }

    #[test]
    fn what_the_controller_writes_is_understood() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("context.yaml");
        let context = |server: &str, ca: &str| AdminContext {
            server: server.into(),
            ca: ca.into(),
            token: "s3cret".to_owned().into(),
        };
        write_admin_context(&path, &context("https://[::1]:7443", &ca())).unwrap();
        assert_eq!(client(&path).unwrap().address().to_string(), "[::1]:7443");
        write_admin_context(&path, &context("http://127.0.0.1:7443", &ca())).unwrap();
        assert!(said(&client(&path).err().unwrap()).contains("server is not https://"));
        write_admin_context(&path, &context("https://127.0.0.1:7443", "x")).unwrap();
        assert!(said(&client(&path).err().unwrap()).contains("ca is not a certificate"));
    }

    #[test]
    fn no_context_says_how_to_get_one_and_a_damaged_one_keeps_its_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("context.yaml");
        let error = said(&client(&path).err().unwrap());
        assert!(error.contains("there is no admin context at") && error.contains("--context"), "{error}");
        for damaged in ["server: https://a:1\ntoken: s3cret\n", "token: [s3cret\n", "s3cret"] {
            identity::files::write_private(&path, damaged.as_bytes()).unwrap();
            let error = said(&client(&path).err().unwrap());
            assert!(error.contains("is no admin context") && !error.contains("s3cret"), "{error}");
        }
    }
}
