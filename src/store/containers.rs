//! The containers of a store.

use super::Store;
use crate::block_on::block_on;
use crate::container::{
    Container, ContainerSettings, Registration, register, register_alias, unregister,
    warn_of_data_left_behind,
};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::storage::no_such_container;
#[cfg(feature = "cookie-containers")]
use crate::transaction::ContainerEntry;
use crate::transaction::Env;
use std::sync::Arc;

impl Store {
    /// Registers a container for the packages of its name, or changes the settings of an existing one. Data that the
    /// package already has in the unnamed container stays there and expires there. A warning is logged if one of the
    /// first thousand sessions there has such data. Their order is random. Blocks until all that is done.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](ErrorKind::TooLarge) if the name exceeds the limit; [`InvalidInput`](ErrorKind::InvalidInput) if
    /// an existing container would move between file, memory and cookie; or a failure of the storage.
    pub fn register(&self, name: &str, settings: ContainerSettings) -> Result<Container> {
        register_and_warn(&self.inner.env, name, &settings)?;
        self.container(name)
    }

    /// [`register`](Self::register) as a future. The work is done on a thread of the store, and to its end even if the
    /// future is dropped.
    ///
    /// ```
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    /// # }
    /// use cloakroom::{ContainerSettings, Store};
    ///
    /// let store = Store::in_memory()?;
    /// let carts = block_on(store.register_async("shop.cart", ContainerSettings::new()))?;
    /// assert_eq!(carts.name(), "shop.cart");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`register`](Self::register).
    pub fn register_async(
        &self,
        name: &str,
        settings: ContainerSettings,
    ) -> impl Future<Output = Result<Container>> + Send + use<> {
        let (store, name) = (self.clone(), name.to_owned());
        async move {
            let of = name.clone();
            let work = move |env: &Arc<Env>| register_and_warn(env, &of, &settings);
            store.inner.env.in_background(work).await?;
            store.container(&name)
        }
    }

    /// Gives a container another name: the packages of both names live in it. Their sessions, settings and expiry are
    /// the same. Blocks until the change is stored. The store keeps it: to register an alias again, as at each start of
    /// an application, changes nothing.
    ///
    /// `name` may be an alias itself: then both are names of the same container. Whatever takes the name of a container
    /// takes an alias too: [`register`](Self::register) with it changes the container's settings,
    /// [`container`](Self::container) returns the container under its own name. [`unregister`](Self::unregister) with it
    /// takes the alias away and leaves the container.
    ///
    /// If the package of the alias has data in the unnamed container already, it stays and expires there. This logs a
    /// warning if it finds any, as [`register`](Self::register) does.
    ///
    /// ```
    /// use cloakroom::{ContainerSettings, Store};
    ///
    /// let store = Store::in_memory()?;
    /// store.register("shop.cart", ContainerSettings::new().in_memory())?;
    /// store.register_alias("shop.wishlist", "shop.cart")?;
    /// assert_eq!(store.container_for("shop.wishlist")?.name(), "shop.cart");
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer) if no container has the name `name`;
    /// [`InvalidInput`](ErrorKind::InvalidInput) if `alias` is the name of a container, this one or another, or an alias
    /// of another one: unregister it first. [`TooLarge`](ErrorKind::TooLarge) if the alias exceeds the limit; or a
    /// failure of the storage.
    pub fn register_alias(&self, alias: &str, name: &str) -> Result<Container> {
        let env = &self.inner.env;
        if block_on(register_alias(env, alias, name))? == Registration::New {
            warn_of_data_left_behind(env, alias);
        }
        self.container(alias)
    }

    /// [`register_alias`](Self::register_alias) as a future. The sessions are examined on a thread of the store. If the
    /// future is dropped, the alias may be registered all the same.
    ///
    /// # Errors
    ///
    /// As for [`register_alias`](Self::register_alias).
    pub fn register_alias_async(
        &self,
        alias: &str,
        name: &str,
    ) -> impl Future<Output = Result<Container>> + Send + use<> {
        let (store, alias, name) = (self.clone(), alias.to_owned(), name.to_owned());
        async move {
            let registered = register_alias(&store.inner.env, &alias, &name).await?;
            store.warn_if_new(registered, &alias).await?;
            store.container(&alias)
        }
    }

    /// Removes a container, with its aliases. Its sessions are gone at once; later sweeps remove their rows. From now on
    /// the packages of its names live in the unnamed container. Blocks until the change is stored.
    ///
    /// With an alias it takes only that name away: the container stays, with all its sessions. What the package of that
    /// name had in it stays there and expires there.
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer); [`InvalidInput`](ErrorKind::InvalidInput) for
    /// the unnamed container, which always exists; or a failure of the storage.
    pub fn unregister(&self, name: &str) -> Result<()> {
        block_on(unregister(&self.inner.env, name))
    }

    /// [`unregister`](Self::unregister) as a future. If it is dropped, the container may be removed all the same.
    ///
    /// # Errors
    ///
    /// As for [`unregister`](Self::unregister).
    pub fn unregister_async(&self, name: &str) -> impl Future<Output = Result<()>> + Send + use<> {
        let (store, name) = (self.clone(), name.to_owned());
        async move { unregister(&store.inner.env, &name).await }
    }

    /// Returns the container registered under exactly this name, or under this alias.
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer).
    pub fn container(&self, name: &str) -> Result<Container> {
        let registry = self.inner.env.registry.load();
        let container = registry.get(name).ok_or_else(|| no_such_container(name))?;
        Ok(self.handle(container.container_ref.name.clone()))
    }

    /// Returns all containers, sorted by name: the unnamed one first. Each is there once, however many aliases it has.
    ///
    /// ```
    /// use cloakroom::{ContainerSettings, Store};
    ///
    /// let store = Store::in_memory()?;
    /// store.register("cart", ContainerSettings::new())?;
    /// let containers = store.containers();
    /// let names: Vec<_> = containers.iter().map(|container| container.name()).collect();
    /// assert_eq!(names, ["", "cart"]);
    /// # Ok::<(), cloakroom::Error>(())
    /// ```
    #[must_use]
    pub fn containers(&self) -> Vec<Container> {
        let registry = self.inner.env.registry.load();
        let names = registry.containers().iter();
        names
            .map(|it| self.handle(it.container_ref.name.clone()))
            .collect()
    }

    /// Returns the container that a package lives in: the one with its name, or else the unnamed one.
    ///
    /// # Errors
    ///
    /// None at present. Other engines may give some.
    pub fn container_for(&self, pkg_id: &str) -> Result<Container> {
        let registry = self.inner.env.registry.load();
        let container = registry.container(registry.for_package(pkg_id));
        Ok(self.handle(container.container_ref.name.clone()))
    }

    /// The containers that live in the visitor's cookie.
    #[cfg(feature = "cookie-containers")]
    pub(crate) fn cookie_containers(&self) -> Vec<Arc<ContainerEntry>> {
        let registry = self.inner.env.registry.load();
        if !registry.has_cookie_containers() {
            return Vec::new();
        }
        let containers = registry.containers().iter();
        let carried = containers.filter(|container| container.id().is_in_cookie());
        carried.cloned().collect()
    }

    /// Looks for data that the package of a new name has left in the unnamed container.
    async fn warn_if_new(&self, registered: Registration, package: &str) -> Result<()> {
        if registered != Registration::New {
            return Ok(());
        }
        let package = package.to_owned();
        let sample = self.inner.env.in_background(move |env| {
            warn_of_data_left_behind(env, &package);
            Ok(())
        });
        sample.await
    }

    fn handle(&self, name: Arc<str>) -> Container {
        Container::new(self.inner.env.clone(), name)
    }
}

/// Registers a container, and waits for that.
fn register_and_warn(env: &Env, name: &str, settings: &ContainerSettings) -> Result<()> {
    if block_on(register(env, name, settings))? == Registration::New {
        warn_of_data_left_behind(env, name);
    }
    Ok(())
}
