//! One engine: started by a script that anybody can run again, stopped with everything that belongs to it.
//!
//! Must stay true: `start.sh` in the engine's run folder starts this engine and nothing else, so that a test which killed
//! it can bring it back; it closes every descriptor it inherits. The engine is entered into its network namespace and no
//! other, so that its mounts are seen by everybody on the machine, as those of a real engine are.
//!
//! The containerd is ours as well. An engine left alone would take the machine's, if there is one, and two engines with
//! one containerd see each other's containers.

use super::flavour::Flavour;
use super::programs::Programs;
use super::{Folders, mounts, process, shifted};
use crate::failure::{Failure, Result, While};
use crate::step::seconds;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long an engine may take until it answers. On a busy machine with a cold disk it needs a few seconds.
const START_MAX: Duration = Duration::from_secs(90);
/// How long an engine may take to stop its containers.
const STOP_MAX: Duration = Duration::from_secs(40);
/// The end of its log that is shown when it does not start.
const LOG_LINES: usize = 25;

/// Whether the engine may set up the firewall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Firewall {
    Used,
    /// Where the kernel has no tables for it. Containers then reach each other, but nothing outside.
    LeftAlone,
}

/// An engine, running or not.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    pub(crate) flavour: Flavour,
    pub(crate) name: String,
    /// Its socket, process ids and logs.
    pub(super) run: PathBuf,
    /// What it stores.
    pub(super) data: PathBuf,
    /// Says that it has run here, by its name, wherever its data is.
    known: PathBuf,
    space: String,
}

impl Engine {
    /// The one that all tests share.
    pub(crate) fn shared(folders: &Folders, flavour: Flavour) -> Self {
        Self::named(folders, flavour, flavour.word().to_owned())
    }

    /// One of somebody's own, to be killed and wiped as they like.
    pub(crate) fn private(folders: &Folders, flavour: Flavour, instance: &str) -> Result<Self> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        if instance.is_empty() || instance.len() > 24 || !instance.chars().all(plain) {
            return Err(Failure::new(format!("`{instance}` is not a name of letters, digits and hyphens")));
        }
        Ok(Self::named(folders, flavour, format!("{}-{instance}", flavour.word())))
    }

    fn named(folders: &Folders, flavour: Flavour, name: String) -> Self {
        Self {
            flavour,
            run: folders.run.join(&name),
            data: match flavour.is_shifted() {
                // Who is not root there does not get at a cache below root's home.
                true => Path::new("/var/tmp").join(format!("lifeboat-engines-{}", folders.word)).join(&name),
                false => folders.cache.join("data").join(&name),
            },
            known: folders.cache.join("data").join(&name),
            space: format!("lifeboat-{}-{name}", folders.word),
            name,
        }
    }

    fn socket(&self) -> PathBuf {
        self.run.join("docker.sock")
    }

    /// For `DOCKER_HOST`.
    pub(crate) fn url(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// The `docker` command on this engine, free from the user's own settings.
    pub(crate) fn docker(&self, words: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_API_VERSION"] {
            docker.env_remove(name);
        }
        docker.env("DOCKER_CONFIG", self.run.join("config")).args(["-H", &self.url()]).args(words);
        docker.stdin(Stdio::null());
        docker
    }

    /// The engine's release, if it answers.
    pub(crate) fn version(&self) -> Option<String> {
        if !self.socket().exists() {
            return None;
        }
        let output = self
            .docker(&["version", "--format", "{{.Server.Version}}"])
            .stderr(Stdio::null())
            .output()
            .ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn pid_file(&self) -> PathBuf {
        self.run.join("dockerd.pid")
    }

    fn containerd_config(&self) -> PathBuf {
        self.run.join("containerd.toml")
    }

    fn log(&self) -> PathBuf {
        self.run.join("dockerd.log")
    }

    /// Starts the engine unless it runs; its release.
    pub(crate) fn start(&self, programs: &Programs) -> Result<String> {
        if process::alive(&self.pid_file(), &self.data).is_some()
            && let Some(version) = self.version()
        {
            return Ok(version);
        }
        let begun = Instant::now();
        // In this order: as it should be; without a firewall, where that was the trouble; and once more on empty data,
        // in case a power cut or a full disk left something behind that the engine does not get over.
        let first = match self.attempt(programs, Firewall::Used) {
            Ok(version) => return Ok(version),
            Err(first) => first,
        };
        let firewall =
            if first.to_string().contains("iptables") { Firewall::LeftAlone } else { Firewall::Used };
        println!("    {} did not start; trying once more from empty data", self.name);
        self.stop()?;
        self.wipe()?;
        self.attempt(programs, firewall).map_err(|second| {
            Failure::new(format!("{second}\nbefore that, {first}\n(after {})", seconds(begun.elapsed())))
        })
    }

    fn attempt(&self, programs: &Programs, firewall: Firewall) -> Result<String> {
        self.end_processes()?;
        for folder in [&self.run, &self.known, &self.data, &self.run.join("config")] {
            std::fs::create_dir_all(folder).while_doing(format_args!("make {}", folder.display()))?;
        }
        for stale in [self.pid_file(), self.socket(), self.run.join("containerd.pid"), self.log()] {
            let _ = std::fs::remove_file(stale);
        }
        if self.flavour.is_shifted() {
            shifted::prepare(self)?;
        }
        self.make_network_space()?;
        self.write_start_script(programs, firewall)?;
        let child = Command::new("bash")
            .arg(self.run.join("start.sh"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .while_doing("start `bash`")?;
        self.wait_until_it_answers(child)
    }

    fn wait_until_it_answers(&self, mut child: Child) -> Result<String> {
        let begun = Instant::now();
        while begun.elapsed() < START_MAX {
            if let Some(version) = self.version() {
                return Ok(version);
            }
            if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return Err(self.did_not_start("ended"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(self.did_not_start("does not answer"))
    }

    fn did_not_start(&self, how: &str) -> Failure {
        let log = std::fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n    ");
        Failure::new(format!(
            "engine {} {how}; the end of {}:\n    {end}\nHint: repeat it with\n    bash {}",
            self.name,
            self.log().display(),
            self.run.join("start.sh").display()
        ))
    }

    /// A network of its own: bridges, addresses and firewall rules of several engines do not meet.
    fn make_network_space(&self) -> Result<()> {
        if !Path::new("/run/netns").join(&self.space).exists() {
            command("ip", &["netns", "add", &self.space])?;
        }
        command("ip", &["-n", &self.space, "link", "set", "lo", "up"])
    }

    fn write_start_script(&self, programs: &Programs, firewall: Firewall) -> Result<()> {
        let config = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\", \
             \"io.containerd.cri.v1.runtime\", \"io.containerd.internal.v1.opt\", \"io.containerd.nri.v1.nri\"]\n\
             [grpc]\naddress = {address:?}\n",
            root = self.data.join("containerd-root"),
            state = self.run.join("containerd"),
            address = self.run.join("containerd.sock"),
        );
        std::fs::write(self.containerd_config(), config).while_doing("write containerd's configuration")?;
        std::fs::write(self.run.join("start.sh"), self.start_script(programs, firewall))
            .while_doing("write the engine's script")
    }

    fn start_script(&self, programs: &Programs, firewall: Firewall) -> String {
        let mut path = String::new();
        if let Some(first) = &programs.first {
            let _ = write!(path, "{}:", quoted(first));
        }
        let run = &self.run;
        let mut options = self.flavour.options().join(" ");
        if firewall == Firewall::LeftAlone {
            options.push_str(" --iptables=false --ip6tables=false --ip-masq=false");
        }
        let program = match self.flavour.is_shifted() {
            true => shifted::programs(run).join("dockerd"),
            false => programs.dockerd.clone(),
        };
        let dockerd = format!(
            "{dockerd} --data-root {data} --exec-root {exec} --pidfile {pid_file} -H {url} --shutdown-timeout 5 {options}",
            dockerd = quoted(&program),
            data = quoted(&self.data),
            exec = quoted(&run.join("exec")),
            pid_file = quoted(&self.pid_file()),
            url = quoted(Path::new(&self.url())),
        );
        let rest = match self.flavour.is_shifted() {
            true => shifted::start(run, self.flavour, programs, &dockerd),
            false => self.containerd_and(programs, &dockerd),
        };
        format!(
            "# Starts the engine {name}, in the foreground. Written by `cargo xtask engines start`.\n\
             # In braces, so that all of it is read before the descriptor that it is read from is closed.\n\
             {{\n\
             cd /\n\
             for fd in /proc/self/fd/*; do fd=${{fd##*/}}; [ \"$fd\" -le 2 ] || eval \"exec $fd>&-\"; done\n\
             export PATH={path}$PATH:/usr/sbin:/sbin\n\
             space=/run/netns/{space}\n\
             {rest} >>{log} 2>&1 </dev/null\n\
             }}\n",
            name = self.name,
            space = self.space,
            log = quoted(&self.log()),
        )
    }

    /// The end of the script: a containerd, unless it runs, and the engine.
    fn containerd_and(&self, programs: &Programs, dockerd: &str) -> String {
        let run = &self.run;
        format!(
            "pid=$(cat {containerd_pid} 2>/dev/null)\n\
             if ! {{ [ -n \"$pid\" ] && tr '\\0' ' ' <\"/proc/$pid/cmdline\" | grep -qF {config}; }} 2>/dev/null; then\n\
             \x20 setsid nsenter --net=\"$space\" {containerd} --config {config} >>{containerd_log} 2>&1 </dev/null &\n\
             \x20 echo $! >{containerd_pid}\n\
             fi\n\
             exec setsid nsenter --net=\"$space\" {dockerd} --containerd {address}",
            config = quoted(&self.containerd_config()),
            containerd = quoted(&programs.containerd),
            containerd_pid = quoted(&run.join("containerd.pid")),
            containerd_log = quoted(&run.join("containerd.log")),
            address = quoted(&run.join("containerd.sock")),
        )
    }

    /// One of the three that everybody uses, and no instance of somebody's own.
    pub(crate) fn is_shared(&self) -> bool {
        self.name == self.flavour.word()
    }

    /// Stops the engine and whatever it left. Nothing happens to one that does not run.
    pub(crate) fn stop(&self) -> Result<()> {
        self.end_processes()?;
        mounts::unmount_below(&self.run)?;
        mounts::unmount_below(&self.data)?;
        if Path::new("/run/netns").join(&self.space).exists() {
            command("ip", &["netns", "delete", &self.space])?;
        }
        mounts::remove(&self.run)?;
        if self.is_shared() { Ok(()) } else { self.wipe() }
    }

    /// The engine, its containerd, and the shims of containers that a killed engine left behind, in this order.
    fn end_processes(&self) -> Result<()> {
        if let Some(pid) = process::alive(&self.pid_file(), &self.data) {
            process::end(pid, &self.data, STOP_MAX)?;
        }
        let child = self.run.join("exec/containerd");
        for sign in [self.containerd_config(), self.run.join("containerd.sock"), child] {
            for pid in process::running("containerd", &sign) {
                process::end(pid, &sign, Duration::from_secs(10))?;
            }
        }
        Ok(())
    }

    /// Removes everything that the engine has stored.
    pub(crate) fn wipe(&self) -> Result<()> {
        mounts::remove(&self.data)?;
        mounts::remove(&self.known)
    }
}

/// For the shell.
pub(super) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Runs a short command that is not worth announcing.
fn command(program: &str, words: &[&str]) -> Result<()> {
    let output = Command::new(program).args(words).output().while_doing(format_args!("start `{program}`"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(format!("`{program} {}` failed: {}", words.join(" "), why.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders() -> Folders {
        Folders { cache: "/c/engines".into(), run: "/run/lifeboat-engines/1".into(), word: "1".into() }
    }

    #[test]
    fn engines_share_neither_data_nor_socket_nor_network() {
        let folders = folders();
        let mut engines = Flavour::ALL.map(|flavour| Engine::shared(&folders, flavour)).to_vec();
        for flavour in [Flavour::Graph, Flavour::Remapped, Flavour::Rootless] {
            engines.push(Engine::private(&folders, flavour, "kill").unwrap());
        }
        for (at, one) in engines.iter().enumerate() {
            for other in &engines[at + 1..] {
                assert!(one.data != other.data && one.url() != other.url() && one.space != other.space);
                assert!(!one.data.starts_with(&other.data) && !one.run.starts_with(&other.run));
            }
        }
    }

    #[test]
    fn the_name_of_a_private_engine_cannot_leave_its_folder() {
        for bad in ["", "../x", "a b", "a/b", "much-too-long-for-the-name-of-a-socket"] {
            assert!(Engine::private(&folders(), Flavour::Graph, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_started_engine_inherits_no_descriptor() {
        let folder = std::env::temp_dir().join(format!("lifeboat-xtask-engine-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let run = Folders { run: folder.clone(), ..folders() };
        let engine = Engine::shared(&run, Flavour::System);
        let programs = Programs { dockerd: "x".into(), containerd: "y".into(), first: None };
        let script = engine.start_script(&programs, Firewall::Used);
        let closing = script.lines().find(|line| line.starts_with("for fd")).unwrap();
        let show = format!("exec 7>/dev/null 12>/dev/null\n{closing}\nls /proc/self/fd");
        let output = Command::new("bash").args(["-c", &show]).output().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        // `ls` holds the folder it lists open, which is why 3 is there.
        let fds: Vec<u32> =
            String::from_utf8_lossy(&output.stdout).lines().map(|line| line.parse().unwrap()).collect();
        assert!(fds.iter().all(|fd| *fd <= 3), "{fds:?}");
    }
}
