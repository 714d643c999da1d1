//! The imports between the files of one crate, read with syn.
//!
//! An import is a path of code that leads into another file of the crate: a `use`, or a path written in place, in a
//! macro's arguments and in an attribute too. It leads to the last module that the path names. A re-export does not
//! carry it further: `use crate::a::Name` imports the file of `a`, wherever `Name` is defined.
//!
//! Always: code for tests has no imports here, which is everything under `#[cfg(test)]` or `#[test]`.
//!
//! Left out: paths in strings, paths that a macro writes, and what reaches another file by a method call only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::visit::{self, Visit};

use crate::house::House;

/// What one file takes from another in one `use` or one line.
pub struct Import {
    /// The importing file, from the top of the repository.
    pub from: String,
    /// The line in it, from 1.
    pub line: usize,
    /// The file that the paths lead to.
    pub to: String,
    /// What is taken: names that `to` has, `*`, or `to` itself by its module's name. Never empty.
    pub names: BTreeSet<String>,
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let (_, to) = self.to.split_once("/src/").unwrap_or(("", &self.to));
        write!(f, "{}:{}: imports {} from {to}", self.from, self.line, names.join(", "))
    }
}

/// The modules of one crate.
pub struct Modules {
    /// Files that are modules of the crate, faces included, tests excluded.
    pub files: BTreeSet<String>,
    /// From one file to another, by file and line.
    pub imports: Vec<Import>,
}

/// Whether a file is a crate's root.
pub fn is_face(file: &str) -> bool {
    file.ends_with("/src/lib.rs") || file.ends_with("/src/main.rs")
}

impl Modules {
    /// Reads the crate in `crates/<dir>` from its roots down.
    pub fn read(house: &House, dir: &str) -> Self {
        let mut files = BTreeSet::new();
        let mut imports: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for face in ["lib", "main"].map(|root| format!("crates/{dir}/src/{root}.rs")) {
            let Some(code) = house.syntax(&face) else { continue };
            let mut tree =
                Tree { house, modules: vec![Module::new(&face, "crate", None)], paths: Vec::new() };
            tree.read_file(&code, 0);
            files.extend(tree.modules.iter().map(|module| module.file.clone()));
            for path in &tree.paths {
                let from = &tree.modules[path.module].file;
                if let Some((to, name)) = tree.resolve(path).filter(|(to, _)| &to.file != from) {
                    let place = (from.clone(), path.line, to.file.clone());
                    imports.entry(place).or_default().insert(name.to_owned());
                }
            }
        }
        let import = |((from, line, to), names)| Import { from, line, to, names };
        Self { files, imports: imports.into_iter().map(import).collect() }
    }

    /// Groups of files that all reach one another by imports: the imports inside each group. The faces take no part.
    pub fn circles(&self) -> Vec<Vec<&Import>> {
        let inner = self.imports.iter().filter(|import| !is_face(&import.from) && !is_face(&import.to));
        let inner: Vec<&Import> = inner.collect();
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            self.files.iter().map(|file| (&**file, reached_from(file, &inner))).collect();
        let groups = reached.iter().map(|(file, others)| {
            others.iter().copied().filter(|other| reached[other].contains(file)).collect::<BTreeSet<&str>>()
        });
        let groups: BTreeSet<BTreeSet<&str>> = groups.filter(|group| !group.is_empty()).collect();
        let inside = |group: &BTreeSet<&str>, import: &Import| {
            group.contains(&*import.from) && group.contains(&*import.to)
        };
        groups
            .iter()
            .map(|group| inner.iter().copied().filter(|import| inside(group, import)).collect())
            .collect()
    }
}

/// Every file that a file imports, directly or through others.
fn reached_from<'a>(file: &'a str, imports: &[&'a Import]) -> BTreeSet<&'a str> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![file]);
    while let Some(next) = open.pop() {
        let imported = imports.iter().filter(|import| import.from == next).map(|import| &*import.to);
        open.extend(imported.filter(|to| reached.insert(*to)));
    }
    reached
}

/// A module, in a file of its own or inline.
struct Module {
    file: String,
    name: String,
    parent: Option<usize>,
    children: BTreeMap<String, usize>,
    /// What a `use` calls a path.
    aliases: BTreeMap<String, Vec<String>>,
}

impl Module {
    fn new(file: &str, name: &str, parent: Option<usize>) -> Self {
        let (children, aliases) = Default::default();
        Self { file: file.to_owned(), name: name.to_owned(), parent, children, aliases }
    }
}

/// A path in the code of a module.
struct Path {
    module: usize,
    line: usize,
    segments: Vec<String>,
    /// In a `use`; elsewhere a path may begin with what a `use` brought in.
    imports: bool,
}

struct Tree<'a> {
    house: &'a House,
    modules: Vec<Module>,
    paths: Vec<Path>,
}

impl Tree<'_> {
    fn read_file(&mut self, code: &syn::File, module: usize) {
        let file = &self.modules[module].file;
        let (dir, name) = file.rsplit_once('/').expect("a source is in a directory");
        let stem = name.trim_end_matches(".rs");
        let inside = match stem {
            "lib" | "main" | "mod" => dir.to_owned(),
            _ => format!("{dir}/{stem}"),
        };
        Reader { module, beside: dir.to_owned(), inside, tree: self }.visit_file(code);
    }

    fn add(&mut self, file: &str, name: &str, parent: usize) -> usize {
        let index = self.modules.len();
        self.modules.push(Module::new(file, name, Some(parent)));
        self.modules[parent].children.insert(name.to_owned(), index);
        index
    }

    /// Follows a path through modules: the last one, and the name after it.
    fn walk<'p>(&self, from: usize, segments: &'p [String]) -> Option<(usize, Option<&'p str>)> {
        let (first, rest) = segments.split_first()?;
        let start = if first == "crate" { 0 } else { self.step(from, first)? };
        Some(self.walk_on(start, rest))
    }

    fn walk_on<'p>(&self, from: usize, segments: &'p [String]) -> (usize, Option<&'p str>) {
        let mut module = from;
        for segment in segments {
            match self.step(module, segment) {
                Some(next) => module = next,
                None => return (module, Some(segment)),
            }
        }
        (module, None)
    }

    fn step(&self, module: usize, segment: &str) -> Option<usize> {
        match segment {
            "self" => Some(module),
            "super" => self.modules[module].parent,
            name => self.modules[module].children.get(name).copied(),
        }
    }

    /// The module that a path leads to, and what it names there; none if it leads out of the crate.
    fn resolve<'p>(&'p self, path: &'p Path) -> Option<(&'p Module, &'p str)> {
        let alias = self.modules[path.module].aliases.get(&path.segments[0]).filter(|_| !path.imports);
        let brought = alias.and_then(|alias| self.walk(path.module, alias));
        let (module, name) = match brought {
            Some((module, None)) => self.walk_on(module, &path.segments[1..]),
            _ => self.walk(path.module, &path.segments)?,
        };
        let module = &self.modules[module];
        Some((module, name.unwrap_or(&module.name)))
    }
}

/// Reads the code of one module.
struct Reader<'t, 'h> {
    tree: &'t mut Tree<'h>,
    module: usize,
    /// The directory of its file.
    beside: String,
    /// The directory of its children's files.
    inside: String,
}

impl Reader<'_, '_> {
    fn path(&mut self, line: usize, segments: Vec<String>, imports: bool) {
        self.tree.paths.push(Path { module: self.module, line, segments, imports });
    }

    fn use_tree(&mut self, tree: &syn::UseTree, line: usize, mut before: Vec<String>) {
        let (ident, alias) = match tree {
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|item| self.use_tree(item, line, before.clone()));
            }
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                return self.use_tree(&path.tree, line, before);
            }
            syn::UseTree::Glob(_) => {
                before.push("*".to_owned());
                return self.path(line, before, true);
            }
            syn::UseTree::Name(name) => (&name.ident, &name.ident),
            syn::UseTree::Rename(rename) => (&rename.ident, &rename.rename),
        };
        if ident != "self" {
            before.push(ident.to_string());
        }
        let alias = if alias == "self" { before.last().cloned() } else { Some(alias.to_string()) };
        if let Some(alias) = alias {
            self.tree.modules[self.module].aliases.insert(alias, before.clone());
        }
        self.path(line, before, true);
    }

    /// Finds the paths of what no parser has read.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let colons = |at: usize| {
            let punct = |at: usize| match tokens.get(at) {
                Some(TokenTree::Punct(punct)) if punct.as_char() == ':' => Some(punct.spacing()),
                _ => None,
            };
            punct(at) == Some(Spacing::Joint) && punct(at + 1).is_some()
        };
        let mut at = 0;
        while at < tokens.len() {
            // `$crate` is of whoever uses the macro.
            let of_a_macro =
                at > 0 && matches!(&tokens[at - 1], TokenTree::Punct(punct) if punct.as_char() == '$');
            let begins = !of_a_macro && (at < 2 || !colons(at - 2));
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) if begins && colons(at + 1) => {
                    let mut segments = vec![first.to_string()];
                    while let Some(TokenTree::Ident(next)) = tokens.get(at + 3).filter(|_| colons(at + 1)) {
                        segments.push(next.to_string());
                        at += 3;
                    }
                    self.path(first.span().start().line, segments, false);
                }
                _ => {}
            }
            at += 1;
        }
    }

    fn declare(&mut self, name: &str, attributes: &[syn::Attribute]) {
        let named = attributes.iter().filter(|attribute| attribute.path().is_ident("path"));
        let named = named.filter_map(|attribute| match &attribute.meta.require_name_value().ok()?.value {
            syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(path), .. }) => Some(path.value()),
            _ => None,
        });
        let named: Vec<String> = named.map(|path| format!("{}/{path}", self.beside)).collect();
        let usual = [format!("{}/{name}.rs", self.inside), format!("{}/{name}/mod.rs", self.inside)];
        let found = |file: &String| Some((file.clone(), self.tree.house.syntax(file)?));
        // A file that the compiler makes, or that the repository has not got, has nothing to read.
        if let Some((file, code)) = named.iter().chain(&usual).find_map(found) {
            let index = self.tree.add(&file, name, self.module);
            self.tree.read_file(&code, index);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_, '_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_for_tests(item_attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = item.ident.to_string();
        let Some((_, items)) = &item.content else { return self.declare(&name, &item.attrs) };
        let file = self.tree.modules[self.module].file.clone();
        let module = self.tree.add(&file, &name, self.module);
        let inside = format!("{}/{name}", self.inside);
        let mut reader = Reader { module, beside: inside.clone(), inside, tree: self.tree };
        items.iter().for_each(|item| reader.visit_item(item));
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() {
            self.use_tree(&item.tree, item.use_token.span.start().line, Vec::new());
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if path.leading_colon.is_none() && segments.len() > 1 {
            self.path(path.segments[0].ident.span().start().line, segments, false);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        visit::visit_macro(self, called);
        let name = called.path.segments.last().map(|segment| segment.ident.to_string());
        // What is quoted is code of another crate.
        if !matches!(name.as_deref(), Some("quote" | "quote_spanned" | "parse_quote")) {
            self.tokens(called.tokens.clone());
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        visit::visit_attribute(self, attribute);
        if let syn::Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    /// `pub(super)` takes nothing from there.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

/// Whether an item is left out of what is built: `#[test]`, `#[cfg(test)]`, and every `cfg` that needs `test`.
fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    fn needs_test(tokens: TokenStream) -> bool {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        match tokens.as_slice() {
            [TokenTree::Ident(name)] => name == "test",
            [TokenTree::Ident(name), TokenTree::Group(all)] if name == "all" => {
                let all: Vec<TokenTree> = all.stream().into_iter().collect();
                let comma =
                    |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
                all.split(comma).any(|one| needs_test(one.iter().cloned().collect()))
            }
            _ => false,
        }
    }
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path.segments.last().is_some_and(|last| last.ident == "test"),
        syn::Meta::List(list) => list.path.is_ident("cfg") && needs_test(list.tokens.clone()),
        syn::Meta::NameValue(_) => false,
    })
}

fn item_attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item::*;
    match item {
        Const(syn::ItemConst { attrs, .. })
        | Enum(syn::ItemEnum { attrs, .. })
        | Fn(syn::ItemFn { attrs, .. })
        | Impl(syn::ItemImpl { attrs, .. })
        | Macro(syn::ItemMacro { attrs, .. })
        | Mod(syn::ItemMod { attrs, .. })
        | Static(syn::ItemStatic { attrs, .. })
        | Struct(syn::ItemStruct { attrs, .. })
        | Trait(syn::ItemTrait { attrs, .. })
        | Type(syn::ItemType { attrs, .. })
        | Use(syn::ItemUse { attrs, .. }) => attrs,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `a/b.rs` imports if this is its code: line, names and file.
    fn imports_of(code: &str) -> Vec<String> {
        let mut house = House::new(BTreeMap::new(), Vec::new());
        for (path, text) in [
            ("lib.rs", "mod a; pub mod c; #[path = \"elsewhere/d.rs\"] mod d; pub use a::A;"),
            ("a/mod.rs", "mod b; mod e; pub use e::E;"),
            ("a/b.rs", code),
            ("a/e.rs", ""),
            ("c.rs", "pub mod f { pub mod g; }"),
            ("c/f/g.rs", ""),
            ("elsewhere/d.rs", ""),
        ] {
            house.add(&format!("crates/x/src/{path}"), text);
        }
        let imports = Modules::read(&house, "x").imports;
        let imports = imports.iter().map(Import::to_string);
        imports.filter_map(|import| Some(import.strip_prefix("crates/x/src/a/b.rs:")?.to_owned())).collect()
    }

    #[test]
    fn paths_lead_where_the_compiler_takes_them() {
        for (code, wanted) in [
            ("use crate::c::C;", &["1: imports C from c.rs"][..]),
            (
                "use super::{\n    E,\n    e::{self, Other as O},\n};",
                &["1: imports Other, e from a/e.rs", "1: imports E from a/mod.rs"],
            ),
            ("use crate::a::E;", &["1: imports E from a/mod.rs"]),
            ("use crate::A;", &["1: imports A from lib.rs"]),
            ("use super::super::d::*;", &["1: imports * from elsewhere/d.rs"]),
            ("use crate::c::f::{F, g::G};", &["1: imports F from c.rs", "1: imports G from c/f/g.rs"]),
            (
                "fn x() -> super::e::X {\n    crate::c::y(crate::d::Z::new())\n}",
                &["1: imports X from a/e.rs", "2: imports y from c.rs", "2: imports Z from elsewhere/d.rs"],
            ),
            (
                "use crate::c::f;\nfn x() { f::g::y() }",
                &["1: imports f from c.rs", "2: imports y from c/f/g.rs"],
            ),
            ("fn x() { println!(\"{}\", [crate::c::N]) }", &["1: imports N from c.rs"]),
            (
                "struct X {\n    #[arg(value_parser = crate::c::parse)]\n    y: u8,\n}",
                &["2: imports parse from c.rs"],
            ),
            ("mod inline { use super::super::e::X; }", &["1: imports X from a/e.rs"]),
            ("fn x() { use crate::c::C; }", &["1: imports C from c.rs"]),
        ] {
            assert_eq!(imports_of(code), wanted, "{code}");
        }
    }

    #[test]
    fn what_is_no_import_is_none() {
        for code in [
            "#[cfg(test)]\nmod tests { use crate::c::C; }",
            "#[cfg(all(test, unix))]\nuse crate::c::C;",
            "impl X { #[cfg(test)] fn y() { crate::c::y() } }",
            "// use crate::c::C;\n/// [`crate::c::C`]\nfn x() -> &'static str { \"crate::c::C\" }",
            "pub(in crate::a) fn x() {}\npub(super) use self::y::Y;\nmod y { pub struct Y; }",
            "fn x() { quote::quote! { crate::c::C } }",
            "macro_rules! x { () => { $crate::c::C + $crate::x!() } }",
            "use ::c::C;\nuse std::{fmt, c::C};\nfn x() { c::y() }",
        ] {
            assert_eq!(imports_of(code), &[] as &[&str], "{code}");
        }
    }
}
