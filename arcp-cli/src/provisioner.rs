//! The provisioner, which issues credentials for the jobs of `arcp serve`.

use std::path::PathBuf;
use std::sync::Arc;

use arcp_host::client::Trust;
use arcp_host::provisioner::litellm::{LiteLlm, read_master_key};
use arcp_host::provisioner::{InMemoryProvisioner, Provisioner};
use arcp_proto::secret::Secret;
use clap::Args;

use crate::args::Serve;
use crate::exit::Failure;

/// Where credentials for models come from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Credentials for models")]
pub struct Provisioning {
    /// Have a LiteLLM proxy issue a key for each job whose lease grants `model.use`:
    /// litellm: and an https:// URL, or http:// on this machine.
    #[arg(long, value_name = "litellm:URL", conflicts_with = "insecure")]
    provisioner: Option<String>,
    /// A private file with the master key of that proxy [default: the variable
    /// ARCP_PROVISIONER_KEY].
    #[arg(long, value_name = "FILE", requires = "provisioner")]
    provisioner_key_file: Option<PathBuf>,
    /// Trust these authorities or certificates of that proxy, a PEM file [default: the
    /// system's authorities].
    #[arg(long, value_name = "FILE", requires = "provisioner")]
    provisioner_ca: Option<PathBuf>,
}

/// The provisioner that the options name, if any.
pub fn of(args: &Serve) -> Result<Option<Arc<dyn Provisioner>>, Failure> {
    let Provisioning { provisioner, provisioner_key_file, provisioner_ca } = &args.provisioning;
    let Some(named) = provisioner else {
        // Sample credentials are accepted nowhere. They are issued only where nobody can listen in.
        let samples = args.agents.samples && !args.tls.insecure;
        return Ok(samples.then(|| Arc::new(InMemoryProvisioner::default()) as Arc<dyn Provisioner>));
    };
    let Some(url) = named.strip_prefix("litellm:") else {
        return Err(Failure::usage("--provisioner: expected litellm:URL, such as litellm:https://models.example"));
    };
    let key = match provisioner_key_file {
        Some(file) => {
            read_master_key(file).map_err(|error| Failure::usage(format!("--provisioner-key-file: {error}")))?
        }
        None => {
            let key = std::env::var("ARCP_PROVISIONER_KEY").ok().filter(|key| !key.is_empty());
            let missing = "--provisioner: give --provisioner-key-file FILE, or the variable ARCP_PROVISIONER_KEY";
            Secret::new(key.ok_or_else(|| Failure::usage(missing))?)
        }
    };
    let trust = provisioner_ca.clone().map(Trust::Authorities).unwrap_or_default();
    let proxy = LiteLlm::new(url, key, &trust).map_err(|error| Failure::usage(format!("--provisioner: {error}")))?;
    Ok(Some(Arc::new(proxy)))
}
