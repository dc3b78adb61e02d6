//! The containers of a store.

use super::Store;
use crate::block_on::block_on;
use crate::container::{
    Container, ContainerSettings, Registration, register, unregister, warn_of_data_left_behind,
};
#[cfg(doc)]
use crate::error::ErrorKind;
use crate::error::Result;
use crate::storage::no_such_container;
#[cfg(feature = "cookie-containers")]
use crate::transaction::ContainerEntry;
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
        let env = &self.inner.env;
        if block_on(register(env, name, &settings))? == Registration::New {
            warn_of_data_left_behind(env, name);
        }
        self.container(name)
    }

    /// [`register`](Self::register) as a future. The sessions are examined on a thread of the store. If the future is
    /// dropped, the container may be registered all the same.
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
            let env = &store.inner.env;
            if register(env, &name, &settings).await? == Registration::New {
                let package = name.clone();
                let sample = env.in_background(move |env| {
                    warn_of_data_left_behind(env, &package);
                    Ok(())
                });
                sample.await?;
            }
            store.container(&name)
        }
    }

    /// Removes a container. Its sessions are gone at once; later sweeps remove their rows. From now on its package
    /// lives in the unnamed container. Blocks until the change is stored.
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

    /// Returns the container registered under exactly this name.
    ///
    /// # Errors
    ///
    /// [`NoSuchContainer`](ErrorKind::NoSuchContainer).
    pub fn container(&self, name: &str) -> Result<Container> {
        let registry = self.inner.env.registry.load();
        let container = registry.get(name).ok_or_else(|| no_such_container(name))?;
        Ok(self.handle(container.container_ref.name.clone()))
    }

    /// Returns all containers, sorted by name: the unnamed one first.
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

    fn handle(&self, name: Arc<str>) -> Container {
        Container::new(self.inner.env.clone(), name)
    }
}
