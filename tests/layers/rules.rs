//! The rules that every source file is checked for, by its syntax: no circles between files, no type name defined
//! twice, no `mod.rs` with functions, no function that is too long, and no parameter that is a bare `bool`.

use std::collections::{BTreeMap, BTreeSet};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// A function of ours has at most so many lines, from its signature to its closing brace.
const LONGEST_FUNCTION: usize = 70;

/// Two definitions of one type for two systems, of which a build has one.
const DEFINED_TWICE: &[&str] = &["Directory", "TempFile"];

/// The parsed files by path, without the items for tests.
pub(crate) struct Files(pub(crate) BTreeMap<String, syn::File>);

impl Files {
    pub(crate) fn parse<'a>(sources: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let is_ours = |file: &str| {
            let for_tests = file.ends_with("tests.rs") || file.contains("/tests/");
            file.starts_with("src/") && !for_tests && !file.starts_with("src/bin/")
        };
        let parsed = sources.into_iter().filter(|(file, _)| is_ours(file));
        let parsed = parsed.map(|(file, text)| {
            let parsed = syn::parse_file(text);
            (
                file.clone(),
                parsed.unwrap_or_else(|e| panic!("{file}: {e}")),
            )
        });
        Self(parsed.collect())
    }
}

pub(crate) fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute
                .parse_args::<syn::Path>()
                .is_ok_and(|path| path.is_ident("test"))
    })
}

pub(crate) fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    use syn::Item;
    match item {
        Item::Const(it) => &it.attrs,
        Item::Enum(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Impl(it) => &it.attrs,
        Item::Macro(it) => &it.attrs,
        Item::Mod(it) => &it.attrs,
        Item::Static(it) => &it.attrs,
        Item::Struct(it) => &it.attrs,
        Item::Trait(it) => &it.attrs,
        Item::Type(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => &[],
    }
}

pub(crate) fn items(file: &syn::File) -> impl Iterator<Item = &syn::Item> {
    file.items
        .iter()
        .filter(|item| !is_for_tests(attributes(item)))
}

pub(crate) fn name_of(item: &syn::Item) -> Option<&syn::Ident> {
    use syn::Item;
    match item {
        Item::Const(it) => Some(&it.ident),
        Item::Enum(it) => Some(&it.ident),
        Item::Fn(it) => Some(&it.sig.ident),
        Item::Static(it) => Some(&it.ident),
        Item::Struct(it) => Some(&it.ident),
        Item::Trait(it) => Some(&it.ident),
        Item::Type(it) => Some(&it.ident),
        Item::Union(it) => Some(&it.ident),
        _ => None,
    }
}

/// The types of a file, those in modules inside it included.
pub(crate) fn types<'a>(items: impl Iterator<Item = &'a syn::Item>) -> Vec<&'a syn::Item> {
    let mut found = Vec::new();
    for item in items.filter(|item| !is_for_tests(attributes(item))) {
        match item {
            syn::Item::Mod(module) => {
                let inner = module.content.iter().flat_map(|(_, items)| items);
                found.extend(types(inner.collect::<Vec<_>>().into_iter()));
            }
            _ if is_type(item) => found.push(item),
            _ => {}
        }
    }
    found
}

pub(crate) fn is_type(item: &syn::Item) -> bool {
    use syn::Item;
    matches!(
        item,
        Item::Enum(_) | Item::Struct(_) | Item::Trait(_) | Item::Type(_) | Item::Union(_)
    )
}

/// The types whose name another type has, too.
pub(crate) fn types_defined_twice(files: &Files) -> Vec<String> {
    let mut by_name = BTreeMap::<String, Vec<String>>::new();
    for (file, parsed) in &files.0 {
        for item in types(parsed.items.iter()) {
            let name = name_of(item).expect("types have names").to_string();
            let line = item.span().start().line;
            by_name
                .entry(name)
                .or_default()
                .push(format!("{file}:{line}"));
        }
    }
    by_name.retain(|name, places| places.len() > 1 && !DEFINED_TWICE.contains(&&**name));
    let found = by_name.into_iter();
    found
        .map(|(name, places)| format!("{name}: {}", places.join(", ")))
        .collect()
}

/// The imports that name nothing.
pub(crate) fn globs(files: &Files) -> Vec<String> {
    fn is_glob(tree: &syn::UseTree) -> bool {
        match tree {
            syn::UseTree::Path(it) => is_glob(&it.tree),
            syn::UseTree::Group(it) => it.items.iter().any(is_glob),
            syn::UseTree::Glob(_) => true,
            syn::UseTree::Name(_) | syn::UseTree::Rename(_) => false,
        }
    }
    let mut found = Vec::new();
    for (file, parsed) in &files.0 {
        for item in items(parsed) {
            if let syn::Item::Use(it) = item
                && is_glob(&it.tree)
            {
                let line = item.span().start().line;
                found.push(format!("{file}:{line}: imports everything"));
            }
        }
    }
    found
}

/// The functions above the limit, and those that take a bare `bool` without being public.
pub(crate) fn functions(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (file, parsed) in &files.0 {
        let mut functions = Functions {
            file,
            found: &mut found,
        };
        for item in items(parsed) {
            functions.visit_item(item);
        }
    }
    found
}

/// The functions in a `mod.rs`, which lists modules and re-exports names only.
pub(crate) fn working_lists(files: &Files) -> Vec<String> {
    #[derive(Default)]
    struct Bodies(Vec<(usize, String)>);

    impl Bodies {
        fn note(&mut self, signature: &syn::Signature) {
            let line = signature.span().start().line;
            self.0.push((line, signature.ident.to_string()));
        }
    }

    impl<'a> Visit<'a> for Bodies {
        fn visit_item(&mut self, item: &'a syn::Item) {
            if !is_for_tests(attributes(item)) {
                visit::visit_item(self, item);
            }
        }

        fn visit_item_fn(&mut self, it: &'a syn::ItemFn) {
            self.note(&it.sig);
        }

        fn visit_impl_item_fn(&mut self, it: &'a syn::ImplItemFn) {
            self.note(&it.sig);
        }

        fn visit_trait_item_fn(&mut self, it: &'a syn::TraitItemFn) {
            if it.default.is_some() {
                self.note(&it.sig);
            }
        }
    }

    let mut found = Vec::new();
    for (file, parsed) in files.0.iter().filter(|(file, _)| file.ends_with("/mod.rs")) {
        let mut bodies = Bodies::default();
        items(parsed).for_each(|item| bodies.visit_item(item));
        let bodies = bodies.0.into_iter();
        found
            .extend(bodies.map(|(line, name)| format!("{file}:{line}: {name} stands in a mod.rs")));
    }
    found
}

struct Functions<'a> {
    file: &'a str,
    found: &'a mut Vec<String>,
}

impl Functions<'_> {
    fn check(&mut self, signature: &syn::Signature, body: Option<&syn::Block>, is_public: bool) {
        let (first, name) = (signature.span().start().line, &signature.ident);
        let last = body.map_or(first, |body| body.span().end().line);
        let (place, lines) = (format!("{}:{first}", self.file), last + 1 - first);
        if lines > LONGEST_FUNCTION {
            self.found
                .push(format!("{place}: {name} has {lines} lines"));
        }
        if !is_public && signature.inputs.iter().any(is_bool) {
            self.found.push(format!("{place}: {name} takes a bool"));
        }
    }
}

fn is_bool(input: &syn::FnArg) -> bool {
    let syn::FnArg::Typed(input) = input else {
        return false;
    };
    matches!(&*input.ty, syn::Type::Path(it) if it.path.is_ident("bool"))
}

pub(crate) fn is_public(visibility: &syn::Visibility) -> bool {
    matches!(visibility, syn::Visibility::Public(_))
}

impl<'a> Visit<'a> for Functions<'_> {
    fn visit_item(&mut self, item: &'a syn::Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, it: &'a syn::ItemFn) {
        self.check(&it.sig, Some(&it.block), is_public(&it.vis));
        visit::visit_item_fn(self, it);
    }

    /// The methods of a trait have the signatures that the trait gives them.
    fn visit_item_impl(&mut self, it: &'a syn::ItemImpl) {
        for item in &it.items {
            let syn::ImplItem::Fn(method) = item else {
                continue;
            };
            if !is_for_tests(&method.attrs) {
                let is_public = it.trait_.is_some() || is_public(&method.vis);
                self.check(&method.sig, Some(&method.block), is_public);
            }
        }
        visit::visit_item_impl(self, it);
    }

    fn visit_item_trait(&mut self, it: &'a syn::ItemTrait) {
        for item in &it.items {
            if let syn::TraitItem::Fn(method) = item {
                self.check(&method.sig, method.default.as_ref(), is_public(&it.vis));
            }
        }
        visit::visit_item_trait(self, it);
    }
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`.
fn module_path(file: &str) -> Vec<String> {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    let path = path.strip_suffix("lib").unwrap_or(path);
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    segments.map(str::to_owned).collect()
}

type Path = Vec<String>;

/// One module: its file, what it defines, and what its imports lead to.
struct Module<'a> {
    file: &'a str,
    defined: BTreeSet<String>,
    /// By the name that they have here, as full paths.
    imports: BTreeMap<String, Path>,
}

/// The groups of files that use each other in a circle.
///
/// A file uses another if it names what that one defines. A name that a module only passes on counts as a use of
/// the file that defines it, so a `mod.rs` that lists and passes on is in no circle.
pub(crate) fn circles(files: &Files) -> Vec<String> {
    let mut modules = BTreeMap::new();
    for (file, parsed) in &files.0 {
        let path = module_path(file);
        let defined = items(parsed).filter_map(name_of).map(ToString::to_string);
        let module = Module {
            file,
            defined: defined.collect(),
            imports: BTreeMap::new(),
        };
        modules.insert(path, module);
    }
    let known: BTreeSet<Path> = modules.keys().cloned().collect();
    for (file, parsed) in &files.0 {
        let path = module_path(file);
        let mut imports = Vec::new();
        for item in items(parsed) {
            if let syn::Item::Use(it) = item {
                leaves(&it.tree, &mut Vec::new(), &mut imports);
            }
        }
        let imports = imports
            .into_iter()
            .filter_map(|(name, import)| Some((name, absolute(&import, &path, &known)?)));
        let imports = imports.collect();
        modules.get_mut(&path).expect("known").imports = imports;
    }
    let mut uses = BTreeMap::<&str, BTreeSet<&str>>::new();
    for (file, parsed) in &files.0 {
        let path = module_path(file);
        let mut paths = Paths::default();
        for item in items(parsed) {
            paths.visit_item(item);
        }
        let here = &modules[&path];
        let named = paths.0.iter().filter_map(|named| {
            let import = here.imports.get(&named[0]);
            let local = |import: &Path| [import, &named[1..]].concat();
            import.map(local).or_else(|| absolute(named, &path, &known))
        });
        let targets = named.filter_map(|named| definer(&named, &modules, 0));
        let targets = targets.filter(|target| *target != here.file);
        uses.entry(here.file).or_default().extend(targets);
    }
    let mut found = components(&uses);
    found.retain(|circle| circle.len() > 1);
    found.into_iter().map(|circle| circle.join(", ")).collect()
}

/// The names that a use item brings in, each with its path.
fn leaves(tree: &syn::UseTree, prefix: &mut Path, found: &mut Vec<(String, Path)>) {
    match tree {
        syn::UseTree::Path(it) => {
            prefix.push(it.ident.to_string());
            leaves(&it.tree, prefix, found);
            prefix.pop();
        }
        syn::UseTree::Group(it) => it.items.iter().for_each(|it| leaves(it, prefix, found)),
        syn::UseTree::Name(it) if it.ident == "self" => {
            let name = prefix.last().expect("a group has a path").clone();
            found.push((name, prefix.clone()));
        }
        syn::UseTree::Name(it) => {
            let name = it.ident.to_string();
            let path = [&**prefix, std::slice::from_ref(&name)].concat();
            found.push((name, path));
        }
        syn::UseTree::Rename(it) => {
            let path = [&**prefix, &[it.ident.to_string()]].concat();
            found.push((it.rename.to_string(), path));
        }
        // No name tells what a glob brings in, so a circle could hide behind one: see `globs`.
        syn::UseTree::Glob(_) => {}
    }
}

/// The path from the crate's root, unless it leads out of the crate.
fn absolute(path: &[String], module: &[String], known: &BTreeSet<Path>) -> Option<Path> {
    let (first, rest) = path.split_first()?;
    match &**first {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let (_, parent) = module.split_last()?;
            let is_up = rest.first().is_some_and(|next| next == "super");
            if is_up {
                absolute(rest, parent, known)
            } else {
                Some([parent, rest].concat())
            }
        }
        _ => {
            let child = [module, std::slice::from_ref(first)].concat();
            known.contains(&child).then(|| [module, path].concat())
        }
    }
}

/// The file that defines what a path leads to.
fn definer<'a>(
    path: &[String],
    modules: &BTreeMap<Path, Module<'a>>,
    depth: usize,
) -> Option<&'a str> {
    let inner = (0..=path.len())
        .rev()
        .find(|n| modules.contains_key(&path[..*n]))?;
    let module = &modules[&path[..inner]];
    let name = path.get(inner)?;
    if module.defined.contains(name) {
        return Some(module.file);
    }
    let import = module.imports.get(name).filter(|_| depth < 8)?;
    definer(&[import, &path[inner + 1..]].concat(), modules, depth + 1)
}

/// All paths that a file names, imports for its own use included.
#[derive(Default)]
struct Paths(Vec<Path>);

impl<'a> Visit<'a> for Paths {
    fn visit_item(&mut self, item: &'a syn::Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, it: &'a syn::ItemUse) {
        if matches!(it.vis, syn::Visibility::Inherited) {
            let mut imports = Vec::new();
            leaves(&it.tree, &mut Vec::new(), &mut imports);
            self.0.extend(imports.into_iter().map(|(_, path)| path));
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string());
        self.0.push(segments.collect());
        visit::visit_path(self, path);
    }
}

/// The strongly connected components, by Tarjan's algorithm.
fn components<'a>(uses: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<Vec<&'a str>> {
    #[derive(Default)]
    struct Search<'a> {
        index: BTreeMap<&'a str, usize>,
        low: BTreeMap<&'a str, usize>,
        stack: Vec<&'a str>,
        found: Vec<Vec<&'a str>>,
    }
    fn visit<'a>(
        at: &'a str,
        uses: &BTreeMap<&'a str, BTreeSet<&'a str>>,
        search: &mut Search<'a>,
    ) {
        let index = search.index.len();
        search.index.insert(at, index);
        search.low.insert(at, index);
        search.stack.push(at);
        for next in uses.get(at).into_iter().flatten() {
            if !search.index.contains_key(next) {
                visit(next, uses, search);
                let low = search.low[next].min(search.low[at]);
                search.low.insert(at, low);
            } else if search.stack.contains(next) {
                let low = search.index[next].min(search.low[at]);
                search.low.insert(at, low);
            }
        }
        if search.low[at] == index {
            let start = search
                .stack
                .iter()
                .position(|it| *it == at)
                .expect("it was pushed");
            let mut circle = search.stack.split_off(start);
            circle.sort_unstable();
            search.found.push(circle);
        }
    }
    let mut search = Search::default();
    for at in uses.keys() {
        if !search.index.contains_key(at) {
            visit(at, uses, &mut search);
        }
    }
    search.found
}
