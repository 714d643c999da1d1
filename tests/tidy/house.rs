//! The repository as data: its files and, from cargo, its packages.
//!
//! Always: what is read is what stands in the working tree, but for `target` and hidden directories. A copy of it can
//! be changed at will, which is how the rules are tested.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use serde_json::Value;

/// The rules themselves: they talk about code in texts.
pub const SELF: &str = "tests/tidy";

/// The repository as data, so that a test can break it.
#[derive(Clone)]
pub struct House {
    /// Text by path from the top; none for what is not text.
    pub files: BTreeMap<String, String>,
    pub packages: Vec<Package>,
    /// Files that syn has read, until their text changes.
    syntax: RefCell<BTreeMap<String, Rc<syn::File>>>,
}

#[derive(Clone)]
pub struct Package {
    pub name: String,
    /// From the top, such as `crates/objects`.
    pub dir: String,
    pub rust_version: String,
    pub binaries: Vec<String>,
    /// Name, and whether it is for tests only.
    pub dependencies: Vec<(String, bool)>,
}

impl House {
    pub fn read() -> Self {
        let top = top();
        let mut files = BTreeMap::new();
        collect(&top, &top, &mut files);
        Self::new(files, packages(&top))
    }

    pub fn new(files: BTreeMap<String, String>, packages: Vec<Package>) -> Self {
        Self { files, packages, syntax: RefCell::default() }
    }

    /// A source as syn reads it. To read all of them takes a second, so a text is read once for all rules.
    pub fn syntax(&self, path: &str) -> Option<Rc<syn::File>> {
        let text = self.files.get(path)?;
        if let Some(known) = self.syntax.borrow().get(path) {
            return Some(known.clone());
        }
        let read = syn::parse_file(text).unwrap_or_else(|error| panic!("{path} is not Rust: {error}"));
        let read = Rc::new(read);
        self.syntax.borrow_mut().insert(path.to_owned(), read.clone());
        Some(read)
    }

    pub fn exists(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let inside =
            self.files.range(below.clone()..).next().is_some_and(|(known, _)| known.starts_with(&below));
        inside || self.files.contains_key(path)
    }

    /// Rust files under `crates/` and `tests/`.
    pub fn sources(&self) -> impl Iterator<Item = (&String, &String)> {
        let source =
            |path: &str| path.ends_with(".rs") && (path.starts_with("crates/") || path.starts_with("tests/"));
        self.files.iter().filter(move |(path, _)| source(path))
    }

    /// Lines of files that `meant` picks, each with its place.
    pub fn lines(&self, meant: impl Fn(&str) -> bool) -> impl Iterator<Item = (String, &str)> {
        let files = self.files.iter().filter(move |(path, _)| meant(path));
        files.flat_map(|(path, text)| {
            text.lines().enumerate().map(move |(number, line)| (format!("{path}:{}", number + 1), line))
        })
    }

    /// Lines of Rust that are not comments.
    pub fn code(&self) -> impl Iterator<Item = (String, &str)> {
        let meant = |path: &str| path.ends_with(".rs") && !path.starts_with(SELF);
        self.lines(meant).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    pub fn rust_version(&self) -> &str {
        let manifest = self.files.get("Cargo.toml").expect("the workspace has a manifest");
        let line = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
        line.expect("the workspace states its rust-version").trim_matches('"')
    }

    pub fn add(&mut self, path: &str, text: &str) {
        self.syntax.get_mut().remove(path);
        self.files.insert(path.into(), text.into());
    }

    pub fn append(&mut self, path: &str, text: &str) {
        self.syntax.get_mut().remove(path);
        self.files.get_mut(path).expect("there is such a file").push_str(text);
    }

    /// Adds a module at the root of a crate.
    pub fn add_module(&mut self, short: &str, name: &str, text: &str) {
        self.add(&format!("crates/{short}/src/{name}.rs"), text);
        self.append(&format!("crates/{short}/src/lib.rs"), &format!("mod {name};\n"));
    }

    pub fn replace(&mut self, path: &str, from: &str, to: &str) {
        self.syntax.get_mut().remove(path);
        let text = self.files.get_mut(path).expect("there is such a file");
        assert!(text.contains(from), "{path} has {from:?}");
        *text = text.replace(from, to);
    }

    pub fn package(&mut self, short: &str) -> &mut Package {
        self.packages.iter_mut().find(|package| package.short() == short).expect("there is such a package")
    }

    pub fn depend(&mut self, short: &str, on: &str) {
        self.package(short).dependencies.push((on.into(), false));
    }
}

impl Package {
    /// Its directory's name.
    pub fn short(&self) -> &str {
        self.dir.rsplit('/').next().unwrap_or(&self.dir)
    }

    pub fn manifest(&self) -> String {
        format!("{}/Cargo.toml", self.dir)
    }
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is below the top").to_owned()
}

/// Directories that are no part of the repository, or not ours to read.
fn skipped(name: &str) -> bool {
    const SHOWN: &[&str] = &[".ci", ".cargo", ".github"];
    name == "target" || name == "__pycache__" || (name.starts_with('.') && !SHOWN.contains(&name))
}

fn collect(top: &Path, dir: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).expect("the repository can be listed") {
        let entry = entry.expect("the repository can be listed");
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().expect("a file has a type").is_dir() {
            if !skipped(&name) {
                collect(top, &path, files);
            }
            continue;
        }
        if name == ".git" {
            continue; // of a linked work tree: it says where the repository is
        }
        let place = path.strip_prefix(top).expect("it is below the top").to_string_lossy().into_owned();
        // A file that an editor or a build has just taken away is not there.
        if let Ok(bytes) = fs::read(&path) {
            files.insert(place, String::from_utf8(bytes).unwrap_or_default());
        }
    }
}

/// The workspace's packages below `crates/`, from cargo.
fn packages(top: &Path) -> Vec<Package> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let args = ["metadata", "--offline", "--no-deps", "--format-version", "1"];
    let out = Command::new(cargo).args(args).current_dir(top).output().expect("cargo can be run");
    assert!(out.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&out.stderr));
    let metadata: Value = serde_json::from_slice(&out.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("cargo metadata lists packages");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let read = |package: &Value| {
        let manifest = PathBuf::from(text(&package["manifest_path"]));
        let dir = manifest.parent()?.strip_prefix(top).ok()?.to_string_lossy().into_owned();
        let dependency = |entry: &Value| (text(&entry["name"]), entry["kind"] == "dev");
        let is_binary = |target: &&Value| target["kind"][0] == "bin";
        let mut binaries: Vec<String> =
            list(&package["targets"]).iter().filter(is_binary).map(|target| text(&target["name"])).collect();
        binaries.sort();
        Some(Package {
            name: text(&package["name"]),
            dir,
            rust_version: text(&package["rust_version"]),
            binaries,
            dependencies: list(&package["dependencies"]).iter().map(dependency).collect(),
        })
    };
    packages.iter().filter_map(read).collect()
}
