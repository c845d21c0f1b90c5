//! The test servers' images, made from Debian's packages: a bare Debian by debootstrap, then one
//! installation in a container of it, committed with a start script.
//!
//! An image carries a label with the digest of all that went into it, so that a changed recipe is built
//! anew and an unchanged one is not.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::docker::{self, docker};
use crate::process::{Result, capture, feed, is_root, on_path, run, seconds, workspace};
use crate::{apt, python, tools};

/// The label that says which recipe an image was made from.
const RECIPE: &str = "pgkeep.recipe";

/// PostgreSQL's majors under test, and the Debian release that carries each.
pub(crate) const POSTGRES: [(u16, &str); 3] = [(15, "bookworm"), (17, "trixie"), (18, "sid")];

/// What an image is made of.
struct Recipe {
    name: String,
    suite: &'static str,
    install: &'static str,
    argument: String,
    start: &'static str,
    start_path: &'static str,
    /// Dockerfile instructions for the commit.
    changes: Vec<String>,
}

impl Recipe {
    fn postgres(major: u16, suite: &'static str) -> Self {
        let start_path = "/usr/local/bin/start-postgres";
        Self {
            name: format!("pgkeep/postgres:{major}"),
            suite,
            install: include_str!("../images/postgres-install.sh"),
            argument: major.to_string(),
            start: include_str!("../images/postgres-start.sh"),
            start_path,
            changes: vec![
                format!("ENV PATH=/usr/lib/postgresql/{major}/bin:/usr/local/bin:/usr/bin:/bin"),
                "ENV LANG=C.UTF-8".into(),
                "USER postgres".into(),
                "WORKDIR /".into(),
                "VOLUME /var/lib/postgresql/data".into(),
                "EXPOSE 5432".into(),
                format!("ENTRYPOINT [\"sh\", \"{start_path}\"]"),
            ],
        }
    }

    /// A host with PostgreSQL and cron daemons.
    fn scheduler() -> Self {
        let (major, suite) = (17, "trixie");
        let start_path = "/usr/local/bin/start-postgres";
        Self {
            name: format!("pgkeep/scheduler:{major}"),
            suite,
            install: concat!(
                include_str!("../images/postgres-install.sh"),
                include_str!("../images/scheduler-install.sh")
            ),
            argument: major.to_string(),
            start: concat!(include_str!("../images/scheduler-start.sh"), include_str!("../images/postgres-start.sh")),
            start_path,
            changes: vec![
                format!(
                    "ENV PATH=/usr/lib/postgresql/{major}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                ),
                "ENV LANG=C.UTF-8".into(),
                "USER root".into(),
                "WORKDIR /root".into(),
                "VOLUME /var/lib/postgresql/data".into(),
                "EXPOSE 5432".into(),
                format!("ENTRYPOINT [\"sh\", \"{start_path}\"]"),
            ],
        }
    }

    fn ceph() -> Self {
        let start_path = "/usr/local/bin/start-ceph";
        Self {
            name: "pgkeep/ceph:18".into(),
            suite: "trixie",
            install: include_str!("../images/ceph-install.sh"),
            argument: String::new(),
            start: include_str!("../images/ceph-start.sh"),
            start_path,
            changes: vec!["EXPOSE 8000".into(), format!("ENTRYPOINT [\"bash\", \"{start_path}\"]")],
        }
    }

    fn digest(&self) -> String {
        let mut hasher = DefaultHasher::new();
        (self.suite, self.install, &self.argument, self.start, &self.changes).hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// Builds the images that are missing or out of date, unpacks the client tools of each, and installs the other stand-ins.
pub(crate) fn ensure() -> Result {
    python::ensure()?;
    docker::ensure()?;
    let mut recipes: Vec<Recipe> = POSTGRES.iter().map(|(major, suite)| Recipe::postgres(*major, suite)).collect();
    recipes.push(Recipe::scheduler());
    recipes.push(Recipe::ceph());
    for recipe in &recipes {
        if label_of(&recipe.name).as_deref() == Some(recipe.digest().as_str()) {
            println!("==> image {} is up to date", recipe.name);
        } else {
            build(recipe)?;
        }
    }
    for (major, _) in POSTGRES {
        tools::ensure(major)?;
    }
    Ok(())
}

fn label_of(image: &str) -> Option<String> {
    let format = format!("{{{{index .Config.Labels \"{RECIPE}\"}}}}");
    capture(&mut docker(["image", "inspect", "--format", &format, image])).ok()
}

fn build(recipe: &Recipe) -> Result {
    let base = base(recipe.suite)?;
    let started = Instant::now();
    println!("==> building image {}", recipe.name);
    let container = format!("pgkeep-build-{}", std::process::id());
    let built = install_and_commit(recipe, &base, &container);
    // A failed build leaves its container behind; the next one must not trip over it.
    let _ = capture(&mut docker(["rm", "--force", "--volumes", &container]));
    built?;
    println!("    {} in {}", recipe.name, seconds(started.elapsed()));
    Ok(())
}

fn install_and_commit(recipe: &Recipe, base: &str, container: &str) -> Result {
    let mut install =
        docker(["run", "--interactive", "--network", "host", "--name", container, base, "sh", "-s", "--"]);
    feed(install.arg(&recipe.argument), recipe.install)?;

    let script = workspace().join(format!("target/{container}.start"));
    let written =
        fs::write(&script, recipe.start).map_err(|error| format!("cannot write {}: {error}", script.display()));
    let copied = written.map_err(Into::into).and_then(|()| {
        let target = format!("{container}:{}", recipe.start_path);
        capture(docker(["cp"]).arg(&script).arg(target))
    });
    let _ = fs::remove_file(&script);
    copied?;

    let mut commit = docker(["commit"]);
    for change in &recipe.changes {
        commit.args(["--change", change]);
    }
    commit.arg("--change").arg(format!("LABEL {RECIPE}={}", recipe.digest()));
    capture(commit.args([container, &recipe.name]))?;
    Ok(())
}

/// The bare Debian below an image: bootstrapped here, or pulled where that is asked for or nothing else works.
fn base(suite: &str) -> Result<String> {
    let pull = match std::env::var("PGKEEP_BASE_IMAGES").as_deref() {
        Ok("pull") => true,
        Ok("debootstrap") => false,
        Ok(other) => return Err(format!("PGKEEP_BASE_IMAGES is pull or debootstrap, not {other}").into()),
        Err(_) => !apt::is_debian(),
    };
    if pull {
        let image = format!("debian:{suite}-slim");
        println!("==> pulling {image}");
        run(&mut docker(["pull", "--quiet", &image]))?;
        return Ok(image);
    }
    let image = format!("pgkeep/debian:{suite}");
    if capture(&mut docker(["image", "inspect", "--format", "{{.Id}}", &image])).is_err() {
        bootstrap(suite, &image)?;
    }
    Ok(image)
}

fn bootstrap(suite: &str, image: &str) -> Result {
    if !on_path("debootstrap") {
        apt::install(&["debootstrap"])?;
    }
    if !is_root() {
        return Err("debootstrap needs root; run:\n  sudo cargo xtask images".into());
    }
    let started = Instant::now();
    println!("==> bootstrapping Debian {suite}");
    let root = Scratch::new(&format!("debian-{suite}"))?;
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", suite]).arg(&root.0);
    debootstrap.args(apt::debian_mirror());
    capture(&mut debootstrap)?;
    slim(&root.0)?;

    let mut tar = Command::new("tar")
        .arg("--directory")
        .arg(&root.0)
        .args(["--create", "--file=-", "."])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run tar: {error}"))?;
    let pipe = tar.stdout.take().ok_or("tar has no output")?;
    let imported = docker(["import", "-", image])
        .stdin(pipe)
        .stdout(Stdio::null())
        .status()
        .map_err(|error| format!("cannot run docker import: {error}"))?;
    let packed = tar.wait().map_err(|error| format!("cannot wait for tar: {error}"))?;
    if !imported.success() || !packed.success() {
        return Err(format!("could not import {image}: tar {packed}, docker {imported}").into());
    }
    println!("    {image} in {}", seconds(started.elapsed()));
    Ok(())
}

/// Takes out what no server reads, and keeps later packages from bringing it back.
fn slim(root: &Path) -> Result {
    let unread = ["usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale"];
    for directory in unread.iter().chain(&["var/cache/apt", "var/lib/apt/lists"]) {
        let directory = root.join(directory);
        if directory.exists() {
            fs::remove_dir_all(&directory)
                .and_then(|()| fs::create_dir_all(&directory))
                .map_err(|error| format!("cannot empty {}: {error}", directory.display()))?;
        }
    }
    let exclude: Vec<String> = unread.iter().map(|directory| format!("path-exclude=/{directory}/*\n")).collect();
    let file = root.join("etc/dpkg/dpkg.cfg.d/slim");
    fs::write(&file, exclude.concat()).map_err(|error| format!("cannot write {}: {error}", file.display()).into())
}

/// A directory that is gone when the build is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Result<Self> {
        let path = workspace().join("target/pgkeep-images").join(name);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
        }
        fs::create_dir_all(&path).map_err(|error| format!("cannot create {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
