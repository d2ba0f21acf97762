//! `tombolo certs issue`: a workload's key, made here, and its certificate, signed by the agent.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use config::resource::Name;
use controller::http::csr;
use controller::http::message::{IssueWorkload, IssuedWorkload, WORKLOAD};
use controller::http::token::Token;
use controller::member::credential::enrolment_client;
use controller::member::read_token;
use controller::workload::ServiceName;
use controller::workload::directory::{self, Files};
use identity::pem::decode_certificates;
use identity::{Identity, KeyedCertificate, PrivateKey, Role, RoleKind, SpiffeId, TrustBundle, TrustDomain};

use crate::command::output::{date, note};

/// Whose certificate, and where it goes.
#[derive(clap::Args)]
pub struct Args {
    /// The global namespace
    #[arg(long, value_name = "NAME")]
    gns: Name,
    /// The service that the workload is an instance of; without a namespace, of the namespace `default`
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    service: ServiceName,
    /// The `member.token` that the cluster's agent wrote into its state directory
    #[arg(long, value_name = "FILE")]
    agent: PathBuf,
    /// The directory that gets cert.pem, key.pem, bundle.pem and federated/; what they held before is replaced
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Makes the key, asks, and writes all three files in one step.
pub async fn run(args: Args) -> Result<ExitCode> {
    let token = read_token(&args.agent).map_err(anyhow::Error::msg)?;
    directory::prepare(&args.out, None)?;
    let (key, id) = (PrivateKey::generate()?, spiffe_id(&args, &token)?);
    let request = IssueWorkload {
        secret: token.secret.to_string(),
        global_namespace: args.gns,
        namespace: args.service.namespace,
        service: args.service.name,
        csr: csr::make(&id, &key)?,
    };
    let client = enrolment_client(&token, RoleKind::Agent)?;
    let issued: IssuedWorkload = client.post(WORKLOAD, &request).await?;
    let until = check(&issued, &key, &id).context("what the agent sent cannot be used")?;
    write(&args.out, &issued, &key)?;
    note(format_args!("{id} until {until}, in {}", args.out.display()));
    Ok(ExitCode::SUCCESS)
}

fn spiffe_id(args: &Args, token: &Token) -> Result<SpiffeId> {
    let role = Role::Workload {
        cluster: token.cluster.to_string(),
        namespace: args.service.namespace.to_string(),
        service: args.service.name.to_string(),
    };
    Ok(SpiffeId::new(TrustDomain::global_namespace(args.gns.as_str(), &token.mesh)?, role)?)
}

/// Whether it is ours, and how long it is good.
fn check(issued: &IssuedWorkload, key: &PrivateKey, id: &SpiffeId) -> Result<String> {
    let identity = Identity::new(KeyedCertificate::new(decode_certificates(&issued.chain)?, key)?)?;
    if identity.id() != id {
        bail!("it is for {}, not for {id}", identity.id());
    }
    TrustBundle::new(decode_certificates(&issued.bundle)?)?;
    for (domain, roots) in &issued.federated {
        // It becomes the name of a file.
        domain.parse::<TrustDomain>()?;
        TrustBundle::new(decode_certificates(roots)?)?;
    }
    Ok(date(identity.keyed().facts().not_after.unix_timestamp()))
}

fn write(out: &Path, issued: &IssuedWorkload, key: &PrivateKey) -> Result<()> {
    let key = key.to_pem();
    let IssuedWorkload { chain, bundle, federated } = issued;
    Ok(directory::write(out, None, &Files { chain, key: &key, bundle, federated })?)
}
