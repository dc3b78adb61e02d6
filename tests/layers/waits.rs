//! No asynchronous code of ours makes its thread wait for a future: the thread may be the only one of a runtime.

use crate::rules::{Files, attributes, is_for_tests, items};
use syn::visit::{self, Visit};

/// The calls that wait for a future on the thread that they are called from, in the bodies of futures.
pub(crate) fn in_futures(files: &Files) -> Vec<String> {
    let mut found = Vec::new();
    for (file, parsed) in &files.0 {
        let mut waits = Waits {
            file,
            depth: 0,
            found: &mut found,
        };
        for item in items(parsed) {
            waits.visit_item(item);
        }
    }
    found
}

struct Waits<'a> {
    file: &'a str,
    /// In how many bodies of futures it is.
    depth: usize,
    found: &'a mut Vec<String>,
}

impl Waits<'_> {
    fn inside(&mut self, visit: impl FnOnce(&mut Self)) {
        self.depth += 1;
        visit(self);
        self.depth -= 1;
    }

    fn note(&mut self, call: &syn::Ident) {
        if self.depth > 0 {
            let line = call.span().start().line;
            self.found.push(format!("{}:{line}: {call}", self.file));
        }
    }

    fn outside(&mut self, signature: &syn::Signature, visit: impl FnOnce(&mut Self)) {
        let depth = std::mem::replace(&mut self.depth, usize::from(signature.asyncness.is_some()));
        visit(self);
        self.depth = depth;
    }
}

impl<'a> Visit<'a> for Waits<'_> {
    fn visit_item(&mut self, item: &'a syn::Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, it: &'a syn::ItemFn) {
        self.outside(&it.sig, |this| visit::visit_item_fn(this, it));
    }

    fn visit_impl_item_fn(&mut self, it: &'a syn::ImplItemFn) {
        if !is_for_tests(&it.attrs) {
            self.outside(&it.sig, |this| visit::visit_impl_item_fn(this, it));
        }
    }

    fn visit_trait_item_fn(&mut self, it: &'a syn::TraitItemFn) {
        self.outside(&it.sig, |this| visit::visit_trait_item_fn(this, it));
    }

    fn visit_expr_async(&mut self, it: &'a syn::ExprAsync) {
        self.inside(|this| visit::visit_expr_async(this, it));
    }

    fn visit_expr_closure(&mut self, it: &'a syn::ExprClosure) {
        match it.asyncness {
            Some(_) => self.inside(|this| visit::visit_expr_closure(this, it)),
            None => visit::visit_expr_closure(self, it),
        }
    }

    /// `answer.wait()` and `storage.block_on(commit)`.
    fn visit_expr_method_call(&mut self, it: &'a syn::ExprMethodCall) {
        let waits = it.method == "wait" && it.args.is_empty();
        if waits || it.method == "block_on" {
            self.note(&it.method);
        }
        visit::visit_expr_method_call(self, it);
    }

    /// `block_on(future)` and `wait(future)`.
    fn visit_expr_call(&mut self, it: &'a syn::ExprCall) {
        if let syn::Expr::Path(function) = &*it.func
            && let Some(last) = function.path.segments.last()
            && (last.ident == "block_on" || last.ident == "wait")
        {
            self.note(&last.ident);
        }
        visit::visit_expr_call(self, it);
    }
}
