//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Progressive delivery for Kubernetes: hold every new version back, let it through step by step,
/// judge it, and decide.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Which cluster and namespace.
#[derive(Debug, Clone, Default, Args)]
pub struct Cluster {
    /// The namespace. Default: that of the kubeconfig's context.
    #[arg(short, long, global = true)]
    pub namespace: Option<String>,
    /// The kubeconfig's context.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// A kubeconfig file. Default: $KUBECONFIG, then ~/.kube/config, then the pod's account.
    #[arg(long, global = true)]
    pub kubeconfig: Option<PathBuf>,
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
}

/// A verb on one Rollout.
#[derive(Debug, Clone, Args)]
pub struct Named {
    /// The Rollout.
    pub name: String,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Play releases on a cluster in this process: no Docker, no root, no network, no cluster.
    Demo(Demo),
    /// Run manifests and a scenario in virtual time: an hour of release in milliseconds.
    Simulate(Simulate),
    /// Run the controller against a cluster.
    Controller(Controller),
    /// List Rollouts: where each release is, why, and what it waits for.
    Get {
        /// Only this one.
        name: Option<String>,
        /// All namespaces.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
        /// Which cluster.
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Show one Rollout. Exit code: 0 done, 1 failed or rolled back, 2 waiting for a person, 3 under way.
    Status {
        /// Follow it until it is done, failed, or waits for a person.
        #[arg(short, long)]
        watch: bool,
        /// Give up after this long.
        #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
        timeout: std::time::Duration,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
        /// Which Rollout.
        #[command(flatten)]
        named: Named,
    },
    /// End the current wait.
    Approve(Named),
    /// Go on: as approve; with --full leave all remaining steps out.
    Promote {
        /// Leave all remaining steps out.
        #[arg(long)]
        full: bool,
        /// Which Rollout.
        #[command(flatten)]
        named: Named,
    },
    /// Freeze the release where it is.
    Pause(Named),
    /// Lift a pause.
    Resume(Named),
    /// Go back to the stable version.
    Abort(Named),
    /// Try again what failed: the step, or a template that was rejected.
    Retry(Named),
    /// Leave out what is left of this step, its analysis included.
    Skip(Named),
    /// Write the template of the native revision before this one.
    Undo {
        /// A native revision, as `kubectl rollout history` shows it. Default: the one before.
        #[arg(long)]
        to_revision: Option<i64>,
        /// Which Rollout.
        #[command(flatten)]
        named: Named,
    },
    /// Go to a step, forward or back.
    Jump {
        /// The step, counted from 1.
        step: i32,
        /// Which Rollout.
        #[command(flatten)]
        named: Named,
    },
    /// Begin the release again at its first step.
    Restart(Named),
    /// Let go of a workload, with or without a controller: entry out, originals back, finalizer off.
    LetGo(Named),
    /// What would happen next, from the same pure function that the controller runs.
    Plan {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
        /// Which Rollout.
        #[command(flatten)]
        named: Named,
    },
    /// Print the custom resource definitions.
    Crds,
    /// Check manifests without a cluster. Exit code: 0 good, 1 errors, 2 nothing of ours in them.
    Lint {
        /// Files or folders; `-` reads standard input.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Install the definitions, the admission policies, the permissions and the controller.
    Install(Install),
    /// Take everything away; originals are restored first. Exit code: 0 all gone, 1 something is left.
    Uninstall {
        /// Which cluster; the controller runs in --namespace, `sluice-system` if it is not given.
        #[command(flatten)]
        cluster: Cluster,
        /// Leave the custom resource definitions, and with them every Rollout, in place.
        #[arg(long)]
        keep_crds: bool,
        /// Let go of every workload and delete nothing but Gates: the rest is Helm's to delete.
        #[arg(long)]
        let_go_only: bool,
    },
    /// Print the completion script of a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// `sluice demo`.
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// The seed of everything random; it also decides which versions are bad.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Shorter steps and less to look at.
    #[arg(long)]
    pub fast: bool,
    /// Leave the cluster up at the end, for kubectl, curl and the browser.
    #[arg(long)]
    pub keep: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Where the kubeconfig file is written. Default: a temporary folder.
    #[arg(long)]
    pub kubeconfig_out: Option<PathBuf>,
}

/// `sluice simulate`.
#[derive(Debug, Clone, Args)]
pub struct Simulate {
    /// Manifests: files or folders.
    #[arg(short, long, required = true)]
    pub filename: Vec<PathBuf>,
    /// What happens when.
    #[arg(long)]
    pub scenario: PathBuf,
    /// The seed of everything random.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `sluice controller`.
#[derive(Debug, Clone, Args)]
pub struct Controller {
    /// Which cluster; with --namespace only that namespace is looked at.
    #[command(flatten)]
    pub cluster: Cluster,
    /// The Prometheus that a metric without an address asks.
    #[arg(long)]
    pub prometheus: Option<String>,
    /// The namespace of the Lease.
    #[arg(long, default_value = "sluice-system")]
    pub lease_namespace: String,
    /// Run without a Lease: there must be no other controller.
    #[arg(long)]
    pub no_lease: bool,
    /// Where health and metrics are served.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: std::net::SocketAddr,
    /// Log as JSON.
    #[arg(long)]
    pub log_json: bool,
}

/// `sluice install`.
#[derive(Debug, Clone, Args)]
pub struct Install {
    /// Which cluster; the controller runs in --namespace, `sluice-system` if it is not given.
    #[command(flatten)]
    pub cluster: Cluster,
    /// The controller's image.
    #[arg(long, default_value = concat!("sluice:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// The Prometheus that a metric without an address asks.
    #[arg(long)]
    pub prometheus: Option<String>,
    /// Print the objects and change nothing.
    #[arg(long)]
    pub dry_run: bool,
}
