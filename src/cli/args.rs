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

/// The namespace of install and uninstall.
const HOME_HELP: &str = "Where the controller runs. Default: sluice-system";

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
    /// How long one request may take; 0s waits for ever.
    #[arg(long, global = true, default_value = "30s", value_parser = humantime::parse_duration)]
    pub request_timeout: std::time::Duration,
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

/// How to print what is wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum LintOutput {
    /// For people and editors: `file:line:column: error: ...`.
    #[default]
    Text,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
    /// SARIF 2.1.0, for code hosts.
    Sarif,
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
    /// Show one Rollout. Exit code: 0 done, 1 failed or rolled back, 2 waiting for a person, 3 under way,
    /// 4 it could not be asked.
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
        /// Which Rollout.
        #[command(flatten)]
        named: Named,
        /// The step, counted from 1.
        step: i32,
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
        #[arg(required_unless_present = "filename")]
        files: Vec<PathBuf>,
        /// The same, as other commands and kubectl take it.
        #[arg(short, long)]
        filename: Vec<PathBuf>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: LintOutput,
    },
    /// Ask a template's metrics once, without a cluster, and explain each. Exit code: 0 pass, 1 fail, 2
    /// inconclusive or no data, 3 wrong input.
    Analyze(Analyze),
    /// Replay the judges on the history of Prometheus: how often each rolls a good release back, and how
    /// soon it finds a bad one.
    Backtest(Box<super::backtest::Backtest>),
    /// Show one AnalysisRun, or list them: each metric's numbers, how sure they are, how they went.
    /// Exit code: 0 passed, or stopped with its release, 1 failed, 2 cannot tell, 3 under way, 4 it could
    /// not be asked.
    Analysis(Analysis),
    /// How long a step must last: minutes to a verdict, and the smallest rise that can be seen.
    Power(Power),
    /// Install the definitions, the admission policies, the permissions and the controller.
    Install(Install),
    /// Take everything away, with every Rollout and template (see --keep-crds); workloads get their own
    /// fields back first. Exit code: 0 all gone, 1 something is left.
    #[command(mut_arg("namespace", |arg| arg.help(HOME_HELP)))]
    Uninstall {
        /// Which cluster.
        #[command(flatten)]
        cluster: Cluster,
        /// Leave the custom resource definitions, and with them every Rollout and template, in place.
        #[arg(long)]
        keep_crds: bool,
        /// Let go of every workload and delete nothing but Gates: the rest is Helm's to delete.
        #[arg(long)]
        let_go_only: bool,
        /// Say what would be let go of and deleted, and change nothing.
        #[arg(long)]
        dry_run: bool,
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

/// `sluice analyze`.
#[derive(Debug, Clone, Args)]
pub struct Analysis {
    /// Only this one.
    pub name: Option<String>,
    /// Draw how its evidence went into this file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// The metrics of a template, asked once.
#[derive(Debug, Args)]
pub struct Analyze {
    /// The template and what it names (templates, MetricProviders, their Secrets): files or
    /// folders; `-` reads standard input.
    #[arg(short, long, required = true)]
    pub filename: Vec<PathBuf>,
    /// Which template, where the files have several.
    #[arg(long)]
    pub template: Option<String>,
    /// A value for an argument of the template; can be given again.
    #[arg(long = "arg", value_name = "NAME=VALUE")]
    pub args: Vec<String>,
    /// Ask as of this time: 2026-11-21T18:00:00Z, or 90m for that long ago. Default: now.
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Ask this server in place of those that the Prometheus metrics name by address or ref.
    #[arg(long, value_name = "URL", visible_alias = "prometheus")]
    pub provider_address: Option<String>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `sluice controller`.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("namespace", |arg| arg.help("Look at this namespace only. Default: at all")))]
pub struct Controller {
    /// Which cluster.
    #[command(flatten)]
    pub cluster: Cluster,
    /// The Prometheus that a metric without an address asks.
    #[arg(long)]
    pub prometheus: Option<String>,
    /// The controller's namespace: of the Lease, and of the Secrets of ClusterMetricProviders.
    #[arg(long, default_value = "sluice-system")]
    pub lease_namespace: String,
    /// Run without a Lease: there must be no other controller.
    #[arg(long)]
    pub no_lease: bool,
    /// A Secret of the controller's namespace whose key `token` Alertmanager shows at /alerts. Without it
    /// no alert is taken.
    #[arg(long)]
    pub alerts_secret: Option<String>,
    /// Ask a Prometheus every 15 s which alerts fire: that of --prometheus, or this ClusterMetricProvider.
    #[arg(long, value_name = "PROVIDER", num_args = 0..=1, default_missing_value = "")]
    pub poll_alerts: Option<String>,
    /// Where health and metrics are served.
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: std::net::SocketAddr,
    /// Log as JSON.
    #[arg(long)]
    pub log_json: bool,
}

/// `sluice install`.
#[derive(Debug, Clone, Args)]
#[command(mut_arg("namespace", |arg| arg.help(HOME_HELP)))]
pub struct Install {
    /// Which cluster.
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

/// `sluice power`. Shares are written as `1%` or `0.01`.
#[derive(Debug, Clone, Args)]
pub struct Power {
    /// Requests per second of both versions together.
    #[arg(long, allow_negative_numbers = true)]
    pub rps: f64,
    /// The share of them that is bad today.
    #[arg(long, value_parser = super::power::share)]
    pub base: f64,
    /// The canary's share of the traffic.
    #[arg(long, default_value = "10%", value_parser = super::power::share)]
    pub weight: f64,
    /// The rise that must be caught; 50% means half as many again.
    #[arg(long, default_value = "50%", value_parser = super::power::share)]
    pub harmful: f64,
    /// The chance that a good release is rolled back.
    #[arg(long, default_value = "1%", value_parser = super::power::share)]
    pub alpha: f64,
    /// The chance that a release with the harmful rise passes.
    #[arg(long, default_value = "5%", value_parser = super::power::share)]
    pub beta: f64,
    /// The chance with which the answer is wanted within the time.
    #[arg(long, default_value = "90%", value_parser = super::power::share)]
    pub power: f64,
    /// What can be seen within this time?
    #[arg(long, value_parser = humantime::parse_duration)]
    pub within: Option<std::time::Duration>,
    /// How much pods of one version differ: the deviation of the logarithm of their rates.
    #[arg(long)]
    pub pod_noise: Option<f64>,
    /// As with a calibration: the service's own noise is in the boundary, and no margin is needed for it.
    #[arg(long)]
    pub calibrated: bool,
    /// Pods of the canary.
    #[arg(long)]
    pub canary_pods: Option<u32>,
    /// Pods of the stable version.
    #[arg(long)]
    pub stable_pods: Option<u32>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}
