//! The public interface as its documents must describe it: each type has an example, the guides name each setting, and
//! the table of calls that may block names each call that has an asynchronous form.

use super::documents::documents;
use super::rules::{Files, attributes, is_public, is_type, items, name_of, types};
use super::{of_planted, sources};
use std::collections::BTreeSet;
use syn::spanned::Spanned as _;

/// The text of the doc comments.
fn docs(attributes: &[syn::Attribute]) -> String {
    let mut text = String::new();
    for attribute in attributes {
        if let syn::Meta::NameValue(it) = &attribute.meta
            && it.path.is_ident("doc")
            && let syn::Expr::Lit(line) = &it.value
            && let syn::Lit::Str(line) = &line.lit
        {
            text += &line.value();
            text.push('\n');
        }
    }
    text
}

/// Whether readers never see it: it is hidden, or part of the interface for the fault harness.
fn is_hidden(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(it) = &attribute.meta else {
            return false;
        };
        let arguments = it.tokens.to_string();
        (it.path.is_ident("doc") && arguments == "hidden")
            || (it.path.is_ident("cfg") && arguments.contains("\"torture\""))
    })
}

/// The root, and the files of the public modules in it.
fn public_files(files: &Files) -> BTreeSet<String> {
    let mut found = BTreeSet::from(["src/lib.rs".to_owned()]);
    let root = files.0.get("src/lib.rs").map(items);
    for item in root.into_iter().flatten() {
        if let syn::Item::Mod(it) = item
            && is_public(&it.vis)
            && !is_hidden(&it.attrs)
        {
            found.insert(format!("src/{}.rs", it.ident));
            found.insert(format!("src/{}/mod.rs", it.ident));
        }
    }
    found
}

fn leaves(tree: &syn::UseTree, found: &mut BTreeSet<String>) {
    match tree {
        syn::UseTree::Path(it) => leaves(&it.tree, found),
        syn::UseTree::Group(it) => it.items.iter().for_each(|tree| leaves(tree, found)),
        syn::UseTree::Name(it) => found.extend([it.ident.to_string()]),
        syn::UseTree::Rename(it) => found.extend([it.ident.to_string()]),
        syn::UseTree::Glob(_) => {}
    }
}

fn visibility(item: &syn::Item) -> Option<&syn::Visibility> {
    use syn::Item;
    match item {
        Item::Enum(it) => Some(&it.vis),
        Item::Struct(it) => Some(&it.vis),
        Item::Trait(it) => Some(&it.vis),
        Item::Type(it) => Some(&it.vis),
        Item::Union(it) => Some(&it.vis),
        _ => None,
    }
}

/// The names of the types that users of the crate can name.
fn public_names(files: &Files) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in public_files(files) {
        let items = files.0.get(&file).map(items).into_iter().flatten();
        for item in items.filter(|item| !is_hidden(attributes(item))) {
            match item {
                syn::Item::Use(it) if is_public(&it.vis) => leaves(&it.tree, &mut found),
                _ if visibility(item).is_some_and(is_public) => {
                    found.extend(name_of(item).map(ToString::to_string));
                }
                _ => {}
            }
        }
    }
    found
}

/// The public types whose docs have no example.
fn without_example(files: &Files) -> Vec<String> {
    let public = public_names(files);
    let mut found = Vec::new();
    for (file, parsed) in &files.0 {
        for item in types(parsed.items.iter()) {
            let name = name_of(item).expect("types have names").to_string();
            if is_type(item) && public.contains(&name) && !docs(attributes(item)).contains("```") {
                let line = item.span().start().line;
                found.push(format!("{file}:{line}: {name} has no example"));
            }
        }
    }
    found
}

/// The public methods of public types: the type, and the signature.
fn methods(files: &Files) -> Vec<(String, &syn::Signature)> {
    let public = public_names(files);
    let mut found = Vec::new();
    for item in files.0.values().flat_map(items) {
        if let syn::Item::Impl(it) = item
            && it.trait_.is_none()
            && let syn::Type::Path(of) = &*it.self_ty
            && let Some(of) = of.path.segments.last()
            && public.contains(&of.ident.to_string())
        {
            let methods = it.items.iter().filter_map(|item| match item {
                syn::ImplItem::Fn(it) if is_public(&it.vis) && !is_hidden(&it.attrs) => Some(it),
                _ => None,
            });
            found.extend(methods.map(|method| (of.ident.to_string(), &method.sig)));
        }
    }
    found
}

/// Whether it takes the value and gives it back, as a setting does.
fn is_setting(signature: &syn::Signature) -> bool {
    fn last(ty: &syn::Type) -> Option<&syn::PathSegment> {
        match ty {
            syn::Type::Path(it) => it.path.segments.last(),
            _ => None,
        }
    }
    let by_value = signature
        .receiver()
        .is_some_and(|it| it.reference.is_none());
    let syn::ReturnType::Type(_, output) = &signature.output else {
        return false;
    };
    let returned = last(output);
    let inner = returned.and_then(|it| match &it.arguments {
        syn::PathArguments::AngleBracketed(it) if it.args.len() == 1 => match it.args.first() {
            Some(syn::GenericArgument::Type(ty)) => last(ty),
            _ => None,
        },
        _ => None,
    });
    let is = |segment: Option<&syn::PathSegment>, name| segment.is_some_and(|it| it.ident == name);
    by_value && (is(returned, "Self") || (is(returned, "Result") && is(inner, "Self")))
}

/// What is between backquotes: names in the text, and blocks of code.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a piece of code names a method: alone, after a type or a value, or as a call.
fn names(code: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let is_whole = !before.ends_with(is_word) && !after.starts_with(is_word);
        let is_method = before.is_empty() || before.ends_with("::") || before.ends_with('.');
        is_whole && (is_method || after.starts_with('('))
    })
}

/// The settings that no guide names.
fn unnamed_settings(files: &Files, guides: &str) -> Vec<String> {
    let settings = methods(files).into_iter().filter(|(_, it)| is_setting(it));
    let unnamed = settings.filter(|(_, it)| {
        let name = it.ident.to_string();
        !code(guides).any(|code| names(code, &name))
    });
    unnamed
        .map(|(of, it)| format!("{of}::{}", it.ident))
        .collect()
}

/// The calls with an asynchronous form that the table of calls that may block does not name.
fn unnamed_calls(files: &Files, table: &str) -> Vec<String> {
    let all = methods(files);
    let known: BTreeSet<_> = all
        .iter()
        .map(|(of, it)| (of, it.ident.to_string()))
        .collect();
    let mut found = Vec::new();
    for (of, name) in &known {
        let form = (*of, format!("{name}_async"));
        if known.contains(&form)
            && !code(table).any(|code| names(code, &form.1) || names(code, name))
        {
            found.push(format!("{of}::{name}"));
        }
    }
    found
}

#[test]
fn each_public_type_has_an_example() {
    let sources = sources();
    let found = without_example(&Files::parse(&sources));
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn each_setting_is_in_a_guide() {
    let mut guides = documents();
    guides.retain(|file, _| file.starts_with("docs/guide/"));
    let guides: String = guides.into_values().map(|text| text + "\n").collect();
    let found = unnamed_settings(&Files::parse(&sources()), &guides);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn each_call_with_an_asynchronous_form_is_in_the_table() {
    let table = &documents()["docs/guide/errors.md"];
    let found = unnamed_calls(&Files::parse(&sources()), table);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

const PLANTED: [(&str, &str); 2] = [
    (
        "src/lib.rs",
        "pub use a::{A, B}; mod a; pub mod m { } #[doc(hidden)] pub mod hidden { pub use crate::a::C; }",
    ),
    (
        "src/a.rs",
        "/// ```\n/// ```\npub struct A;\npub enum B {}\npub struct C;\nimpl A {\n\
         pub fn size(mut self) -> Self {}\npub fn path(self) -> Result<Self> {}\npub fn close(self) -> Result<()> {}\n\
         pub fn close_async(self) {}\nfn own(self) -> Self {}\n#[doc(hidden)] pub fn bug(self) -> Self {} }\n\
         impl C { pub fn other(self) -> Self {} }",
    ),
];

#[test]
fn planted_omissions_are_found() {
    assert_eq!(
        of_planted(without_example, &PLANTED),
        ["src/a.rs:4: B has no example"]
    );
    let settings = |files: &Files| unnamed_settings(files, "the size of a path, and `A::path`");
    assert_eq!(of_planted(settings, &PLANTED), ["A::size"]);
    let settings = |files: &Files| unnamed_settings(files, "`size` and `a.path(x)`");
    assert_eq!(of_planted(settings, &PLANTED), [""; 0]);
    let calls = |files: &Files| unnamed_calls(files, "it may close, `enclose(x)`");
    assert_eq!(of_planted(calls, &PLANTED), ["A::close"]);
    let calls = |files: &Files| unnamed_calls(files, "`A::close`");
    assert_eq!(of_planted(calls, &PLANTED), [""; 0]);
}
