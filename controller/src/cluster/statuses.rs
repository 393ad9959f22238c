//! What stands in the statuses of a cluster now.

use controller_core::{snapshot::Kind, translate::ObjectStatus};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
};

use super::{object::REPORTED, resources::discover};

/// The statuses of all objects of the kinds that have one that controllers write.
pub(crate) async fn statuses(client: &Client) -> Result<Vec<ObjectStatus>, kube::Error> {
    let mut statuses = Vec::new();
    for (kind, resource) in discover(client).await? {
        if Kind::named(kind).is_none_or(|kind| !REPORTED.contains(&kind.group)) {
            continue;
        }
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        for mut object in api.list(&ListParams::default()).await?.items {
            let status = object.data.get_mut("status").map(serde_json::Value::take).unwrap_or_default();
            let (namespace, name) = (object.metadata.namespace, object.metadata.name);
            let (namespace, name) = (namespace.unwrap_or_default(), name.unwrap_or_default());
            statuses.push(ObjectStatus { kind, namespace, name, status: status.into() });
        }
    }
    Ok(statuses)
}
