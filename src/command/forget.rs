//! `tombolo forget`: a gateway or DNS server that is gone for good is waited for no more.

use std::process::ExitCode;
use std::str::FromStr;

use anyhow::Result;
use config::resource::Name;

use super::api::Api;
use super::context;
use super::output::note;

/// Forgets a gateway or DNS server that has ended without a word, instead of waiting for it for 10 minutes: it holds up no
/// resource any more, and its address is told to nobody. One that comes back is a member again: to shut one out, revoke it.
#[derive(clap::Args)]
pub struct Args {
    /// CLUSTER/MEMBER, as `tombolo status` lists them
    #[arg(value_name = "CLUSTER/MEMBER")]
    member: Member,
    #[command(flatten)]
    context: context::ContextArgs,
}

#[derive(Debug, Clone, PartialEq)]
struct Member {
    cluster: Name,
    name: Name,
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (cluster, name) = text.split_once('/').ok_or("write CLUSTER/MEMBER")?;
        let name_of = |part: &str| part.parse::<Name>().map_err(|error| error.to_string());
        Ok(Member { cluster: name_of(cluster)?, name: name_of(name)? })
    }
}

/// Asks the controller, which asks the cluster's agent.
pub async fn run(args: Args) -> Result<ExitCode> {
    let Member { cluster, name } = &args.member;
    Api::open(&args.context)?.forget(cluster, name).await?;
    note(format_args!("{cluster}/{name} is forgotten"));
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_member_is_named_with_its_cluster() {
        let member: Member = "north/gw-a".parse().unwrap();
        assert_eq!((member.cluster.as_str(), member.name.as_str()), ("north", "gw-a"));
        for wrong in ["", "gw-a", "north/", "/gw-a", "north/gw/a", "North/gw-a"] {
            assert!(wrong.parse::<Member>().is_err(), "{wrong}");
        }
    }
}
