//! Which of our kinds the API server serves, and in which version.

use std::collections::{BTreeMap, BTreeSet};

use controller_core::snapshot::KINDS;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Error,
    api::{ApiResource, ListParams},
    discovery,
    error::DiscoveryError,
};

/// Resources by the name of their kind.
pub(super) type Resources = BTreeMap<&'static str, ApiResource>;

/// Asks the API server. A group that it does not have is no error; of the versions that it serves, the most stable counts.
pub(super) async fn discover(client: &Client) -> Result<Resources, Error> {
    let mut resources = Resources::new();
    let groups: BTreeSet<&str> = KINDS.iter().map(|kind| kind.group).collect();
    for group in groups {
        let served = match discovery::group(client, group).await {
            Ok(served) => served,
            Err(Error::Discovery(DiscoveryError::MissingApiGroup(_) | DiscoveryError::EmptyApiGroup(_))) => continue,
            // The last resource of the group has gone since it was listed.
            Err(Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(error),
        };
        for (resource, _) in served.resources_by_stability() {
            if let Some(kind) = KINDS.iter().find(|kind| kind.group == group && kind.name == resource.kind) {
                resources.insert(kind.name, resource);
            }
        }
    }
    Ok(resources)
}

/// The version that all of the API server's data has now; zero where versions are no numbers.
pub(super) async fn version(client: &Client) -> Result<u64, Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let list = namespaces.list_metadata(&ListParams::default().limit(1)).await?;
    Ok(list.metadata.resource_version.and_then(|version| version.parse().ok()).unwrap_or_default())
}
