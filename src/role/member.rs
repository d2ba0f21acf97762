//! What gateways and DNS servers have in common: they follow their agent, compile the world, and acknowledge.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use config::compile::Compiler;
use config::explain::{Answer, Question};
use config::live::{self, Live, Publisher};
use config::resource::{GatewayAddresses, Name};
use config::snapshot::{Namespace, Place, Snapshot};
use config::wire::{Ack, Json, MemberRole, TrustReport, Unanswered};
use controller::member::holdings::{Need, Needs};
use controller::member::{self, Followed, Member, Standing};
use controller::sync::relay::{self, Answerer};
use futures_util::future::BoxFuture;
use gateway::{Identities, Secrets};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::pace::Pace;

/// A leaving member waits so long for its agent to hear of it.
const FAREWELL: Duration = Duration::from_millis(1_500);

/// How a process becomes a member of its cluster.
#[derive(clap::Args, Debug, Clone)]
pub struct MemberArgs {
    /// The process's own state directory: identity, last good world.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// The `member.token` that the cluster's agent wrote into its state directory.
    #[arg(long, value_name = "FILE")]
    pub agent: PathBuf,
    /// The process's name, unique in its cluster.
    #[arg(long)]
    pub name: Name,
}

/// A followed world, ready for a data plane.
pub struct Following {
    /// Where this is.
    pub place: Place,
    /// The world, compiled.
    pub snapshot: Live<Snapshot>,
    /// The keys of host certificates.
    pub secrets: Live<Secrets>,
    /// Identities, by GNS.
    pub identities: Live<Identities>,
    /// The same with what is told of them.
    pub held: watch::Receiver<Arc<member::Identities>>,
    /// What it shows to its agent, and by whom it knows that one.
    pub own: watch::Receiver<Option<TrustReport>>,
    /// Takes what the data plane acts on.
    pub ack: watch::Sender<Ack>,
    /// What answers the questions that come from the agent.
    answers: Arc<OnceLock<Explains>>,
    membership: tokio::task::JoinHandle<()>,
    standing: watch::Sender<Standing>,
}

/// Answers a question out of what a data plane acts on.
pub type Explains = Box<dyn Fn(Question) -> BoxFuture<'static, Answer> + Send + Sync>;

impl Following {
    /// From now on questions that come from the agent are answered by this. Only the first counts.
    pub fn answer_by(&self, explains: Explains) {
        _ = self.answers.set(explains);
    }

    /// From now on the agent is followed: whoever cannot start must not end the stream of one that runs by this name.
    pub fn begin(&self) {
        self.aside()(false);
    }

    /// Says goodbye to the agent, so that it forgets this member at once.
    pub async fn leave(self) {
        self.end(Standing::Leaving).await;
    }

    /// Ends without a word: another process of the same name follows the agent.
    pub async fn give_way(self) {
        self.end(Standing::Succeeded).await;
    }

    /// By which this process stops following the agent, while another of the same name does, or goes on.
    pub fn aside(&self) -> impl Fn(bool) + Send + Sync + use<> {
        let standing = self.standing.clone();
        move |aside| {
            let (from, to) = if aside { (Standing::Here, Standing::Aside) } else { (Standing::Aside, Standing::Here) };
            standing.send_if_modified(|now| (*now == from).then(|| *now = to).is_some());
        }
    }

    async fn end(self, standing: Standing) {
        self.standing.send_replace(standing);
        if tokio::time::timeout(FAREWELL, self.membership).await.is_err() {
            tracing::debug!("the agent did not hear of the leave");
        }
    }
}

/// Takes up what is on disk; follows the agent in the background once it begins.
pub fn follow(args: MemberArgs, role: MemberRole, addresses: Option<GatewayAddresses>) -> anyhow::Result<Following> {
    let MemberArgs { state, agent, name } = args;
    let member = Member::build(member::Settings { token_file: agent, state_dir: state, name, role, addresses })?;
    let place = Place { cluster: member.cluster().clone() };
    let mut followed = member.followed();
    let first = followed.borrow_and_update().clone();
    let mut compiler = Compiler::new(place.clone());
    let first_snapshot = Arc::new(snapshot_of(first.as_deref(), &mut compiler));
    let (ack, acks) = watch::channel(Ack::default());
    let (needs, needed) = watch::channel(Arc::new(needs_of(&first_snapshot, role)));
    let (snapshots, snapshot) = live::channel(first_snapshot);
    let (keys, secrets) = live::channel(secrets_of(first.as_deref()));
    let (mut held, all_held, towards_agent) = (member.identities(), member.identities(), member.own());
    let (own, identities) = live::channel(Arc::new(identities_of(&held.borrow_and_update())));

    let mut publishing = Publishing { compiler, role, needs, keys, snapshots };
    tokio::spawn(async move {
        let mut pace = Pace::default();
        loop {
            let pressed = followed.has_changed().unwrap_or_default();
            if followed.changed().await.is_err() {
                return;
            }
            let newest = followed.borrow_and_update().clone();
            let begun = Instant::now();
            // Beside the runtime's workers: those have requests to serve. It fails only when the runtime ends.
            let published = spawn_blocking(move || publishing.publish(newest.as_deref()));
            let Ok(next) = published.await else { return };
            publishing = next;
            tokio::time::sleep(pace.rest(begun.elapsed(), pressed)).await;
        }
    });
    tokio::spawn(async move {
        while held.changed().await.is_ok() {
            let newest = identities_of(&held.borrow_and_update());
            own.publish(Arc::new(newest));
        }
    });
    let standing = watch::Sender::new(Standing::Aside);
    let answers = Arc::<OnceLock<Explains>>::default();
    let member = member.answering(answerer(answers.clone()));
    let membership = tokio::spawn(member.run(needed, acks, standing.subscribe()));
    let (held, own) = (all_held, towards_agent);
    Ok(Following { place, snapshot, secrets, identities, held, own, ack, answers, membership, standing })
}

/// Reads what is asked, and writes what is answered. A kind of question that a newer release knows is not answered.
fn answerer(answers: Arc<OnceLock<Explains>>) -> Answerer {
    Arc::new(move |ask| {
        let answers = answers.clone();
        Box::pin(async move {
            let explains = answers.get().ok_or(Unanswered::Unable);
            let question = ask.question.read().ok().filter(|question| *question != Question::Unknown);
            let answered = match (explains, question) {
                (Ok(explains), Some(question)) => Json::of(&explains(question).await).map_err(|_| Unanswered::Unable),
                (Err(reason), _) => Err(reason),
                (Ok(_), None) => Err(Unanswered::Unable),
            };
            relay::outcome(answered)
        })
    })
}

/// What becomes of one world after another.
struct Publishing {
    compiler: Compiler,
    role: MemberRole,
    needs: watch::Sender<Arc<Needs>>,
    keys: Publisher<Secrets>,
    snapshots: Publisher<Snapshot>,
}

impl Publishing {
    fn publish(mut self, newest: Option<&Followed>) -> Self {
        let compiled = Arc::new(snapshot_of(newest, &mut self.compiler));
        self.needs.send_replace(Arc::new(needs_of(&compiled, self.role)));
        // The keys first: the plan that needs one must find it.
        self.keys.publish(secrets_of(newest));
        self.snapshots.publish(compiled);
        self
    }
}

fn snapshot_of(followed: Option<&Followed>, compiler: &mut Compiler) -> Snapshot {
    match followed {
        Some(followed) => {
            let mut snapshot = compiler.compile(&followed.world);
            snapshot.rejected.extend(followed.rejected.iter().cloned());
            snapshot
        }
        None => Snapshot::empty(compiler.place().clone()),
    }
}

/// Only gateways speak in the name of a GNS.
fn needs_of(snapshot: &Snapshot, role: MemberRole) -> Needs {
    let mine = |gns: &&Arc<Namespace>| role == MemberRole::Gateway && !gns.visited;
    let namespaces = snapshot.namespaces.values().filter(mine);
    namespaces.filter_map(|gns| Some((gns.name.clone(), Need::of(gns)?))).collect()
}

fn secrets_of(followed: Option<&Followed>) -> Arc<Secrets> {
    followed.map(|followed| followed.secrets.0.clone()).unwrap_or_default()
}

fn identities_of(held: &member::Identities) -> Identities {
    held.iter().map(|(gns, holding)| (gns.clone(), Arc::new(holding.value.clone()))).collect()
}
