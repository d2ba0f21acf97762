//! `tombolo certs revoke` and `tombolo certs reinstate`.

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Result;
use config::resource::Name;
use config::revoked::Revoked;
use controller::global::Revoke;

use super::super::api::Api;
use super::super::context;
use super::super::output::note;

/// The flags.
#[derive(clap::Args)]
pub struct Args {
    /// The cluster: all of it, unless one of the following says what in it
    #[arg(long, value_name = "NAME")]
    cluster: Name,
    /// A gateway of the cluster
    #[arg(long, value_name = "NAME", conflicts_with = "workload")]
    gateway: Option<Name>,
    /// The workloads of a service of the cluster
    #[arg(long, value_name = "NAMESPACE/SERVICE")]
    workload: Option<Workload>,
    #[command(flatten)]
    context: context::ContextArgs,
}

/// A service in a namespace.
#[derive(Clone)]
struct Workload {
    namespace: Name,
    service: Name,
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (namespace, service) =
            text.split_once('/').ok_or_else(|| format!("{text:?} is not NAMESPACE/SERVICE, such as shop/cart"))?;
        let name = |text: &str| text.parse::<Name>().map_err(|error| error.to_string());
        Ok(Workload { namespace: name(namespace)?, service: name(service)? })
    }
}

impl Args {
    fn revoked(&self) -> Revoked {
        let cluster = self.cluster.clone();
        match (&self.gateway, &self.workload) {
            (Some(name), _) => Revoked::Gateway { cluster, name: name.clone() },
            (None, Some(Workload { namespace, service })) => {
                Revoked::Workload { cluster, namespace: namespace.clone(), service: service.clone() }
            }
            (None, None) => Revoked::Cluster(cluster),
        }
    }
}

/// From now on nobody believes them.
pub async fn revoke(args: Args) -> Result<ExitCode> {
    let revoked = args.revoked();
    Api::open(&args.context)?.revoke(&Revoke { revoked: revoked.clone() }).await?;
    note(format!("the {revoked} is revoked: nobody believes it any more, and what it has open is cut"));
    Ok(ExitCode::SUCCESS)
}

/// They are believed again.
pub async fn reinstate(args: Args) -> Result<ExitCode> {
    let revoked = args.revoked();
    Api::open(&args.context)?.reinstate(&Revoke { revoked: revoked.clone() }).await?;
    note(format!(
        "the {revoked} is believed again, and so is every certificate of it that is still in its life: if a key was \
         stolen, give it another name instead"
    ));
    Ok(ExitCode::SUCCESS)
}
