//! `tidewater-operator plan`: what applying resources would change in the cluster. Everything is asked of the API server as
//! a dry run: nothing is changed.

use std::process::ExitCode;

use anyhow::{Context, bail};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DeserializeGuard};
use kube::{Api, Client, ResourceExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tidewater_crds::{API_VERSION, IcebergTable, KafkaS3Sink};

use crate::controller::apply::MANAGER;
use crate::controller::build::{Child, build};
use crate::controller::kind::SinkKind;
use crate::controller::live::{
    ChildKind, DeploymentFacts, RawDeployment, of_answer, of_deployment,
};
use crate::controller::table::{CatalogIdentity, Preview, TableWish};
use crate::controller::validate::{Checked, Claim, Identity, Known, References, validate};
use crate::controller::{LAST_APPLIED, fetch, names, watch as watches};
use crate::settings::Settings;

mod difference;

use difference::{Change, changes, restarts};

pub(super) async fn plan(arguments: super::Plan) -> anyhow::Result<ExitCode> {
    let mut documents = Vec::new();
    for file in &arguments.files {
        let text = std::fs::read_to_string(file);
        let text = text.with_context(|| format!("read {}", file.display()))?;
        let read = read(&text).with_context(|| format!("read {}", file.display()))?;
        documents.extend(read);
    }
    let client = Client::try_default().await.context("find the cluster")?;
    let settings = arguments.common.settings();
    let cluster = Cluster {
        claims: claims(&client, &settings).await?,
        client,
        settings,
    };
    let mut sound = true;
    for document in documents {
        let told = match document["kind"].as_str() {
            Some(KafkaS3Sink::KIND) => cluster.resource::<KafkaS3Sink>(document).await?,
            Some(IcebergTable::KIND) => cluster.resource::<IcebergTable>(document).await?,
            // Read by the API server as it is.
            _ => continue,
        };
        sound &= told.sound;
        print!("{}", told.text);
    }
    Ok(if sound {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The documents of a file.
fn read(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut documents = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let document = serde_yaml_ng::Value::deserialize(document)?;
        let document = serde_json::to_value(document)?;
        let (version, kind) = (&document["apiVersion"], &document["kind"]);
        if document.is_null() {
            continue;
        }
        let ours = [KafkaS3Sink::KIND, IcebergTable::KIND]
            .iter()
            .any(|name| kind == name);
        if ours && version != API_VERSION {
            bail!("apiVersion {version} of a {kind}: use {API_VERSION}");
        }
        documents.push(document);
    }
    Ok(documents)
}

/// The consumer groups of all resources there are.
async fn claims(client: &Client, settings: &Settings) -> anyhow::Result<Vec<Claim>> {
    let mut claims = of_kind::<KafkaS3Sink>(client, settings).await?;
    claims.extend(of_kind::<IcebergTable>(client, settings).await?);
    Ok(claims)
}

async fn of_kind<S: SinkKind>(client: &Client, settings: &Settings) -> anyhow::Result<Vec<Claim>> {
    let mut claims = Vec::new();
    let apis: Vec<Api<DeserializeGuard<S>>> = watches::apis(client, &settings.namespaces);
    for api in apis {
        let listed = api.list(&ListParams::default()).await;
        let listed = listed.with_context(|| format!("list resources of kind {}", S::KIND))?;
        claims.extend(
            listed
                .items
                .iter()
                .filter_map(|object| Some(Claim::of(object.0.as_ref().ok()?))),
        );
    }
    Ok(claims)
}

/// What is said of a resource.
struct Told {
    text: String,
    /// Whether it would come into force.
    sound: bool,
}

impl Told {
    fn line(&mut self, depth: usize, line: &str) {
        self.text.push_str(&"  ".repeat(depth));
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn changes(&mut self, depth: usize, changes: &[Change]) {
        for change in changes {
            self.line(depth, &change.to_string());
        }
    }

    async fn table(mut self, wish: &TableWish) -> Self {
        let title = format!("table {}", wish.name());
        // Whoever runs this asks as themselves.
        if wish.hidden(CatalogIdentity::Operator).is_some() {
            self.line(1, &format!("? {title}: only the pods can see its catalog"));
            return self;
        }
        match wish.preview().await {
            Ok(preview) => self.preview(&title, &preview),
            // The pods may reach it, and look for themselves.
            Err(why) => {
                self.line(1, &format!("? {title}: {why}"));
                self
            }
        }
    }

    fn preview(mut self, title: &str, preview: &Preview) -> Self {
        let sign = match (preview.exists, preview.steps.is_empty()) {
            _ if !preview.refused.is_empty() => "!",
            (false, _) => "+",
            (true, true) => "=",
            (true, false) => "~",
        };
        self.line(1, &format!("{sign} {title}"));
        for step in &preview.steps {
            self.line(2, step);
        }
        if preview.refused.is_empty() {
            return self;
        }
        self.refused(&format!("Differs: {}", preview.refused.join("; ")))
    }

    fn refused(mut self, why: &str) -> Self {
        self.line(1, &format!("! would not come into force: {why}"));
        self.sound = false;
        self
    }
}

struct Cluster {
    client: Client,
    settings: Settings,
    claims: Vec<Claim>,
}

impl Cluster {
    async fn resource<S: SinkKind>(&self, document: Value) -> anyhow::Result<Told> {
        let name = document["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let namespace = document["metadata"]["namespace"].as_str();
        let namespace = namespace
            .unwrap_or(self.client.default_namespace())
            .to_owned();
        let mut told = Told {
            text: format!("{} {namespace}/{name}\n", S::KIND),
            sound: true,
        };
        let kind = ApiResource::erase::<S>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace, &kind);
        let live = api.get_opt(&name).await.context("read the resource")?;
        let new = match self.dry(&api, &name, live.clone(), document).await {
            Ok(new) => new,
            Err(kube::Error::Api(status)) => return Ok(told.refused(&status.message)),
            Err(error) => return Err(error).context("ask about the resource"),
        };
        match &live {
            None => told.line(1, "+ would be created"),
            Some(live) => told.changes(
                1,
                &changes(&json!(live)["spec"], &json!(new)["spec"], "spec"),
            ),
        }
        let sink: S = new.try_parse().context("read the API server's answer")?;
        if names::is_frozen(sink.meta()) {
            told.line(
                1,
                "nothing would follow: annotation tidewater.dev/reconcile: paused",
            );
            return Ok(told);
        }
        let references = References::of(&sink);
        let secrets = fetch::secrets(&self.client, &namespace, references.names()).await;
        let secrets = secrets.context("read Secrets")?;
        let identity = Identity::of(&sink);
        let deployment = self.deployment(&identity).await?;
        let status = sink.status();
        let scaling = status.into_iter().flat_map(|status| &status.conditions);
        let scaling = scaling
            .into_iter()
            .find(|condition| condition.type_ == "Scaling");
        let checked = validate(
            &sink,
            &references,
            &S::schema(),
            &Known {
                secrets: &secrets,
                claims: &self.claims,
                partitions: status
                    .and_then(|status| status.partitions)
                    .and_then(|n| u32::try_from(n).ok()),
                deployment: deployment.as_ref(),
                runtime: status.and_then(|status| status.runtime.as_ref()),
                scaling: scaling.map(|scaling| scaling.reason.as_str()),
                image: &self.settings.runtime_image,
            },
        );
        match checked {
            Ok(checked) => {
                if let Some(wish) = &checked.table {
                    told = told.table(wish).await;
                }
                self.children(told, &checked, live.is_some()).await
            }
            Err(finding) => {
                let why = format!("{}: {}", finding.reason(), finding.message());
                Ok(told.refused(&why))
            }
        }
    }

    /// The resource as it would be, with the file's spec in place of the one there is.
    async fn dry(
        &self,
        api: &Api<DynamicObject>,
        name: &str,
        live: Option<DynamicObject>,
        document: Value,
    ) -> Result<DynamicObject, kube::Error> {
        let params = PostParams {
            dry_run: true,
            field_manager: None,
        };
        let parsed = |value| serde_json::from_value(value).map_err(kube::Error::SerdeError);
        match live {
            Some(mut live) => {
                live.data["spec"] = spec_over(&live, &document);
                let before = last_applied(&live);
                let taken_out = before["metadata"]["annotations"].as_object().cloned();
                let annotations = live.annotations_mut();
                annotations
                    .retain(|key, _| taken_out.iter().all(|before| !before.contains_key(key)));
                let given = document["metadata"]["annotations"].as_object();
                for (key, value) in given.into_iter().flatten() {
                    annotations.insert(key.clone(), value.as_str().unwrap_or_default().to_owned());
                }
                api.replace(name, &params, &live).await
            }
            None => api.create(&params, &parsed(document)?).await,
        }
    }

    async fn deployment(&self, identity: &Identity) -> anyhow::Result<Option<DeploymentFacts>> {
        let api: Api<DeserializeGuard<RawDeployment>> =
            Api::namespaced(self.client.clone(), &identity.namespace);
        let found = api
            .get_opt(&identity.child)
            .await
            .context("read the Deployment")?;
        let facts = found.map(|found| of_deployment(found).facts());
        Ok(facts.and_then(|facts| facts.deployment).map(|facts| *facts))
    }

    async fn children(
        &self,
        mut told: Told,
        checked: &Checked,
        exists: bool,
    ) -> anyhow::Result<Told> {
        let wanted = build(checked, self.settings.pod_monitors.as_ref());
        let identity = &checked.identity;
        for child in &wanted {
            let (kind, name) = (child.kind, child.name());
            let live = self.live(kind, identity, name).await?;
            let title = format!("{} {name}", kind.name());
            let Some(live) = live else {
                told.line(1, &format!("+ {title}"));
                continue;
            };
            let owner = of_answer(kind, live.clone()).owner.unwrap_or_default();
            if !exists || owner.uid != identity.uid {
                let why =
                    format!("NameConflict: {title} exists and does not belong to this resource");
                told = told.refused(&why);
                continue;
            }
            match self.dry_child(child, identity).await {
                Ok(new) => {
                    let found = changes(&json!(live), &json!(new), "");
                    told.line(
                        1,
                        &format!("{} {title}", if found.is_empty() { "=" } else { "~" }),
                    );
                    told.changes(2, &found);
                    if kind == ChildKind::Deployment && restarts(&found) {
                        told.line(2, "the pods would be restarted, one after the other");
                    }
                }
                Err(kube::Error::Api(status)) => {
                    told = told.refused(&format!("{title}: {}", status.message));
                }
                Err(error) => return Err(error).with_context(|| format!("ask about {title}")),
            }
        }
        for kind in ChildKind::ALL {
            if wanted.iter().any(|child| child.kind == kind)
                || (kind == ChildKind::PodMonitor && self.settings.pod_monitors.is_none())
            {
                continue;
            }
            let name = &identity.child;
            if let Some(live) = self.live(kind, identity, name).await?
                && of_answer(kind, live)
                    .owner
                    .is_some_and(|owner| owner.uid == identity.uid)
            {
                told.line(1, &format!("- {} {name}", kind.name()));
            }
        }
        Ok(told)
    }

    async fn live(
        &self,
        kind: ChildKind,
        identity: &Identity,
        name: &str,
    ) -> anyhow::Result<Option<DynamicObject>> {
        let found = self.api(kind, identity).get_opt(name).await;
        let title = || format!("read {} {name}", kind.name());
        found.with_context(title)
    }

    async fn dry_child(
        &self,
        child: &Child,
        identity: &Identity,
    ) -> Result<DynamicObject, kube::Error> {
        let mut params = PatchParams::apply(MANAGER).force().validation_strict();
        params.dry_run = true;
        self.api(child.kind, identity)
            .patch(child.name(), &params, &Patch::Apply(&child.body))
            .await
    }

    fn api(&self, kind: ChildKind, identity: &Identity) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &identity.namespace, &kind.api())
    }
}

/// What `kubectl apply` was given the last time; nothing where it was not used.
fn last_applied(live: &DynamicObject) -> Value {
    let text = live.annotations().get(LAST_APPLIED);
    let before = text.and_then(|text| serde_json::from_str(text).ok());
    before.unwrap_or_default()
}

/// The document's spec. Replicas that it leaves out are left to whoever scales the resource, as `kubectl apply` does: unless
/// it was applied with them before.
fn spec_over(live: &DynamicObject, document: &Value) -> Value {
    let mut spec = document["spec"].clone();
    let before = last_applied(live);
    let replicas = &live.data["spec"]["replicas"];
    let left_out = |spec: &Value| spec["replicas"].is_null();
    if left_out(&spec) && left_out(&before["spec"]) && spec.is_object() && !replicas.is_null() {
        spec["replicas"] = replicas.clone();
    }
    spec
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn told(preview: &Preview) -> Told {
        let told = Told {
            text: String::new(),
            sound: true,
        };
        told.preview("table sales.orders", preview)
    }

    #[test]
    fn what_would_become_of_the_table_is_told() {
        let preview = |exists: bool, steps: &[&str], refused: &[&str]| Preview {
            exists,
            steps: steps.iter().map(|step| (*step).to_owned()).collect(),
            refused: refused.iter().map(|why| (*why).to_owned()).collect(),
        };
        let new = told(&preview(false, &[], &[]));
        assert_eq!(new.text, "  + table sales.orders\n");
        let same = told(&preview(true, &[], &[]));
        assert_eq!(same.text, "  = table sales.orders\n");
        let changed = told(&preview(
            true,
            &["partition by day(at) instead of nothing"],
            &[],
        ));
        assert_eq!(
            changed.text,
            "  ~ table sales.orders\n    partition by day(at) instead of nothing\n"
        );
        assert!(changed.sound);
        let refused = told(&preview(true, &[], &["no"]));
        assert_eq!(
            refused.text,
            "  ! table sales.orders\n  ! would not come into force: Differs: no\n"
        );
        assert!(!refused.sound);
    }

    #[test]
    fn replicas_that_a_file_leaves_out_are_those_that_somebody_scaled_to() {
        let applied = |before: &str| -> DynamicObject {
            let annotations = json!({ LAST_APPLIED: before });
            serde_json::from_value(json!({
                "apiVersion": API_VERSION, "kind": "KafkaS3Sink",
                "metadata": {"name": "orders", "annotations": annotations}, "spec": {"replicas": 3},
            }))
            .unwrap()
        };
        let replicas = |live: &DynamicObject, spec: Value| {
            spec_over(live, &json!({"spec": spec}))["replicas"].clone()
        };
        for before in ["", r#"{"spec": {}}"#] {
            assert_eq!(replicas(&applied(before), json!({"a": 1})), json!(3));
            assert_eq!(replicas(&applied(before), json!({"replicas": 2})), json!(2));
        }
        // Taken out of the file: the default comes back.
        let before = applied(r#"{"spec": {"replicas": 3}}"#);
        assert_eq!(replicas(&before, json!({"a": 1})), Value::Null);
    }

    #[test]
    fn a_file_may_hold_several_documents_of_which_ours_have_our_version() {
        let read = |text: &str| read(text);
        let documents =
            read("kind: Secret\n---\n---\napiVersion: tidewater.dev/v1alpha1\nkind: KafkaS3Sink\n");
        assert_eq!(documents.unwrap().len(), 2);
        let error = read("apiVersion: tidewater.dev/v1\nkind: IcebergTable\n").unwrap_err();
        assert!(error.to_string().contains("use tidewater.dev/v1alpha1"));
        assert!(read("a: [").is_err());
    }
}
