//! The controller's API, as the commands call it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use config::explain::Explanation;
use config::manifest::Manifest;
use config::resource::{Kind, Name, ResourceId, Span};
use controller::access::{Role, TokenRow};
use controller::audit::Entry;
use controller::global::{Applied, Await, Awaited, CertificatesStatus, MeshStatus, PeerRow, Revoke, Rollback, Rotate};
use controller::http::client::{CallError, Client};
use controller::http::message::ErrorItem;
use controller::store::Row;
use http::{Method, StatusCode};
use identity::pem::decode_certificates;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::context;
use super::item::Item;

/// A controller, and the context by which it is known.
pub struct Api {
    client: Client,
    context: PathBuf,
}

#[derive(Deserialize)]
struct Items<T> {
    items: Vec<T>,
}

/// Revisions, and whether there are older ones that were asked for, too.
#[derive(Deserialize)]
struct Rows {
    items: Vec<Row>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct CreatedToken {
    token: String,
}

/// A token for the API, as it is asked for.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiTokenRequest<'r> {
    /// Its name.
    pub name: &'r Name,
    /// What it allows.
    pub role: Role,
    /// Where; everywhere if there are none.
    pub global_namespaces: &'r [Name],
    /// How long; for ever unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<Span>,
}

/// What shall become so together.
#[derive(Default)]
pub struct Batch<'b> {
    /// What shall be there.
    pub manifests: &'b [Manifest],
    /// What shall not.
    pub removals: &'b [ResourceId],
    /// What shall not be there may be absent already.
    pub ignore_absent: bool,
}

/// What a controller does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It.
    Do,
    /// Check and tell, but change nothing.
    DryRun,
    /// The same, and tell what each resource was and becomes.
    Diff,
}

impl How {
    /// Whether only to tell.
    pub fn of(dry_run: bool) -> Self {
        if dry_run { How::DryRun } else { How::Do }
    }
}

impl Api {
    /// The controller that the context names. It isn't called yet.
    ///
    /// # Errors
    /// When there is no context, or not a sound one.
    pub fn open(context: &context::ContextArgs) -> Result<Self> {
        let context = context.path()?;
        Ok(Api { client: context::client(&context)?, context })
    }

    /// Whom it calls.
    pub fn address(&self) -> String {
        self.client.address().to_string()
    }

    /// Applies manifests, with the keys that came with them, and removals. The inner error has every reason why they are
    /// refused.
    ///
    /// # Errors
    /// When the controller cannot be asked.
    pub async fn apply(&self, batch: &Batch<'_>, how: How) -> Result<Result<Applied, Vec<ErrorItem>>> {
        let manifests: Vec<Value> = batch.manifests.iter().map(Manifest::to_upload).collect();
        let mut body = json!({ "manifests": manifests });
        let mut set = |name: &str, value: Value| body.as_object_mut().map(|body| body.insert(name.to_owned(), value));
        // What isn't asked for isn't named, so that older controllers understand.
        if !batch.removals.is_empty() {
            set("removals", json!(batch.removals));
            set("ignoreAbsent", json!(batch.ignore_absent));
        }
        if how != How::Do {
            set("dryRun", json!(true));
        }
        if how == How::Diff {
            set("diff", json!(true));
        }
        self.refusable(self.client.post("/v1alpha1/apply", &body).await)
    }

    /// Brings an earlier revision of the whole set back. The inner error has every reason why not.
    ///
    /// # Errors
    /// When the controller cannot be asked.
    pub async fn rollback(&self, revision: u64, how: How) -> Result<Result<Applied, Vec<ErrorItem>>> {
        let request = Rollback { revision, dry_run: how != How::Do, diff: how == How::Diff };
        self.refusable(self.client.post("/v1alpha1/rollback", &request).await)
    }

    fn refusable<T>(&self, answer: Result<T, CallError>) -> Result<Result<T, Vec<ErrorItem>>> {
        match answer {
            Ok(answer) => Ok(Ok(answer)),
            Err(CallError::Refused { status: StatusCode::UNPROCESSABLE_ENTITY, errors, .. }) => Ok(Err(errors)),
            Err(error) => Err(self.explain(&error)),
        }
    }

    /// The newest revisions, the oldest of them first.
    ///
    /// # Errors
    /// When the controller cannot be asked.
    pub async fn history(&self, limit: usize) -> Result<Vec<Row>> {
        let mut rows: Vec<Row> = Vec::new();
        loop {
            let before = rows.first().map(|first| format!("&before={}", first.revision)).unwrap_or_default();
            let path = format!("/v1alpha1/history?limit={}{before}", limit - rows.len());
            let Rows { mut items, more } = self.client.get(&path).await.map_err(|error| self.explain(&error))?;
            let is_over = !more || items.is_empty() || rows.len() + items.len() >= limit;
            items.append(&mut rows);
            rows = items;
            if is_over {
                return Ok(rows);
            }
        }
    }

    /// A backup of all that the controller keeps.
    ///
    /// # Errors
    /// When the controller cannot be asked.
    pub async fn backup(&self) -> Result<Bytes> {
        self.client.download("/v1alpha1/backup").await.map_err(|error| self.explain(&error))
    }

    /// The resources of a kind, or of all; of a GNS, or of all.
    ///
    /// # Errors
    /// When the controller cannot be asked. So it is with all that follow.
    pub async fn list(&self, kind: Option<Kind>, global_namespace: Option<&Name>) -> Result<Vec<Item>> {
        self.list_at(None, kind, global_namespace).await
    }

    /// The same as of an earlier revision.
    pub async fn list_at(
        &self,
        revision: Option<u64>,
        kind: Option<Kind>,
        global_namespace: Option<&Name>,
    ) -> Result<Vec<Item>> {
        let kind = kind.map(|kind| format!("kind={kind}"));
        let global_namespace = global_namespace.map(|gns| format!("globalNamespace={gns}"));
        let revision = revision.map(|revision| format!("revision={revision}"));
        let filter: Vec<String> = kind.into_iter().chain(global_namespace).chain(revision).collect();
        let path = format!("/v1alpha1/resources?{}", filter.join("&"));
        let Items { items } = self.client.get(&path).await.map_err(|error| self.explain(&error))?;
        Ok(items)
    }

    /// Whether these resources are ready, once that is something else than what was `seen`, or after so long; nothing from
    /// a controller that cannot be asked so, or by no more callers at once.
    pub async fn readiness(
        &self,
        ids: &[ResourceId],
        seen: Option<&str>,
        patience: Duration,
    ) -> Result<Option<Awaited>> {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let asked = Await { ids: ids.to_vec(), known: seen.map(ToOwned::to_owned), patience_ms };
        match self.client.post("/v1alpha1/ready", &asked).await {
            Ok(awaited) => Ok(Some(awaited)),
            Err(CallError::Refused { status: StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE, .. }) => Ok(None),
            Err(error) => Err(self.explain(&error)),
        }
    }

    /// One resource.
    pub async fn get(&self, id: &ResourceId) -> Result<Item> {
        self.client.get(&resource(id)).await.map_err(|error| self.explain(&error))
    }

    /// How the mesh is doing.
    pub async fn status(&self) -> Result<MeshStatus> {
        self.client.get("/v1alpha1/status").await.map_err(|error| self.explain(&error))
    }

    /// How gateways see one another.
    pub async fn peers(&self) -> Result<Vec<PeerRow>> {
        let Items { items } = self.client.get("/v1alpha1/peers").await.map_err(|error| self.explain(&error))?;
        Ok(items)
    }

    /// What becomes of a request.
    pub async fn explain_request(&self, question: &Value) -> Result<Explanation> {
        self.client.post("/v1alpha1/explain", question).await.map_err(|error| self.explain(&error))
    }

    /// Each step from the gateways of one cluster to those of another.
    pub async fn peering(&self, from: &Name, to: &Name) -> Result<Explanation> {
        let tested = self.client.get(&format!("/v1alpha1/peering/{from}/{to}")).await;
        tested.map_err(|error| self.explain(&error))
    }

    /// Waits no more for a member that is gone for good.
    pub async fn forget(&self, cluster: &Name, member: &Name) -> Result<()> {
        let done: Result<IgnoredAny, CallError> =
            self.client.delete(&format!("/v1alpha1/members/{cluster}/{member}")).await;
        done.map(drop).map_err(|error| self.explain(&error))
    }

    /// Who holds which certificate, and what is being replaced.
    pub async fn certificates(&self) -> Result<CertificatesStatus> {
        self.client.get("/v1alpha1/certificates").await.map_err(|error| self.explain(&error))
    }

    /// Begins to replace certificates.
    pub async fn rotate(&self, rotate: &Rotate) -> Result<()> {
        let begun: Result<IgnoredAny, CallError> = self.client.post("/v1alpha1/certificates/rotate", rotate).await;
        begun.map(drop).map_err(|error| self.explain(&error))
    }

    /// Says whom nobody is to believe any more.
    pub async fn revoke(&self, revoke: &Revoke) -> Result<()> {
        let done: Result<IgnoredAny, CallError> = self.client.post("/v1alpha1/certificates/revoke", revoke).await;
        done.map(drop).map_err(|error| self.explain(&error))
    }

    /// Takes that back.
    pub async fn reinstate(&self, revoke: &Revoke) -> Result<()> {
        let done: Result<IgnoredAny, CallError> = self.client.post("/v1alpha1/certificates/reinstate", revoke).await;
        done.map(drop).map_err(|error| self.explain(&error))
    }

    /// The certificates of the top-level CA, in PEM: two while it is being replaced.
    pub async fn ca(&self) -> Result<String> {
        let bytes = self.client.bytes(Method::GET, "/v1alpha1/ca", None).await.map_err(|error| self.explain(&error))?;
        let text = String::from_utf8(bytes.to_vec()).context("the controller's CA is no text")?;
        decode_certificates(&text).context("the controller's CA is no certificate")?;
        Ok(text)
    }

    /// A token with which the cluster may join.
    pub async fn create_token(&self, cluster: &Name) -> Result<String> {
        let created = self.client.post("/v1alpha1/tokens", &json!({ "cluster": cluster })).await;
        created.map(|CreatedToken { token }| token).map_err(|error| self.explain(&error))
    }

    /// A token for the API.
    pub async fn create_api_token(&self, request: &ApiTokenRequest<'_>) -> Result<String> {
        let created = self.client.post("/v1alpha1/api-tokens", request).await;
        created.map(|CreatedToken { token }| token).map_err(|error| self.explain(&error))
    }

    /// The tokens for the API.
    pub async fn api_tokens(&self) -> Result<Vec<TokenRow>> {
        let Items { items } = self.client.get("/v1alpha1/api-tokens").await.map_err(|error| self.explain(&error))?;
        Ok(items)
    }

    /// Ends a token for the API.
    pub async fn revoke_api_token(&self, name: &Name) -> Result<()> {
        let revoked: Result<IgnoredAny, CallError> = self.client.delete(&format!("/v1alpha1/api-tokens/{name}")).await;
        revoked.map(drop).map_err(|error| self.explain(&error))
    }

    /// The newest entries of the audit log.
    pub async fn audit(&self, limit: usize) -> Result<Vec<Entry>> {
        let path = format!("/v1alpha1/audit?limit={limit}");
        let Items { items } = self.client.get(&path).await.map_err(|error| self.explain(&error))?;
        Ok(items)
    }

    /// In words that name the context where the context may be the cause.
    fn explain(&self, error: &CallError) -> anyhow::Error {
        let context = self.context.display();
        match error {
            CallError::Tls { .. } => anyhow!(
                "{error}; its certificate was checked against the CA of {context}: if the mesh was made anew, take the \
                 new context that the controller wrote"
            ),
            CallError::Refused { status: StatusCode::UNAUTHORIZED, .. } => {
                anyhow!("{error}; the token is that of {context}: is it the newest context of that controller?")
            }
            CallError::Refused { status: StatusCode::NOT_FOUND, errors, .. } if !errors.is_empty() => {
                anyhow!("{}", errors.iter().map(|error| error.message.as_str()).collect::<Vec<_>>().join("; "))
            }
            other => anyhow!("{other}"),
        }
    }
}

/// Names need no escaping in a path.
fn resource(id: &ResourceId) -> String {
    format!("/v1alpha1/resources/{id}")
}
