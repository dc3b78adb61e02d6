//! A package as one value of an application's own type. Knows no request.

use crate::error::Result;
use crate::session::{PkgData, Session};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::Deref;

/// The key under which the value is stored.
const KEY: &str = "value";

/// A type of an application whose value is the state of one package. [`Pkg`] reads and writes it.
///
/// The value is stored under the one key `value`, in serde's form of the type. So fields evolve by serde's rules. A
/// field that is stored and unknown to the type is ignored. A field that the type has and that is not stored needs
/// `#[serde(default)]`, on the field or on the whole type.
///
/// ```
/// use cloakroom::Package;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Serialize, Deserialize)]
/// #[serde(default)]
/// struct Cart {
///     articles: Vec<String>,
///     voucher: Option<String>,
/// }
///
/// impl Package for Cart {
///     const ID: &'static str = "shop.cart";
/// }
/// ```
pub trait Package: Default + Serialize + DeserializeOwned {
    /// The package id. Each type has its own, and no other code uses the key `value` of that package.
    const ID: &'static str;
}

/// The state of a package as a value of the application's own type.
///
/// It reads as a `T` by `Deref`, and is `T::default()` where nothing is stored. [`update`](Self::update) writes. In
/// axum it is also an extractor:
///
/// ```
/// # #[cfg(feature = "axum")] {
/// use cloakroom::{Error, Package, Pkg};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default, Serialize, Deserialize)]
/// #[serde(default)]
/// struct Cart {
///     articles: Vec<String>,
/// }
///
/// impl Package for Cart {
///     const ID: &'static str = "shop.cart";
/// }
///
/// async fn put_in(mut cart: Pkg<Cart>, article: String) -> Result<String, Error> {
///     cart.update(|cart| cart.articles.push(article.clone()))?;
///     Ok(format!("{} articles", cart.articles.len()))
/// }
/// # let _ = axum::Router::<()>::new().route("/cart", axum::routing::post(put_in));
/// # }
/// ```
///
/// The value is read when the `Pkg` is made, which counts as reading the one key. Two requests that change the same
/// package conflict; two that change different packages do not. A later change by another handle of the same
/// transaction is seen after [`reload`](Self::reload) or [`update`](Self::update).
///
/// # Errors
///
/// As an extractor it is rejected with the errors of [`of`](Self::of) and of the extractor `Session`. The table of
/// statuses in the module `http` has them; a stored value that is not a `T` is answered with 500.
pub struct Pkg<T> {
    data: PkgData,
    value: T,
}

impl<T: Package> Pkg<T> {
    /// Reads the package of a session. This creates nothing.
    ///
    /// # Errors
    ///
    /// [`TypeMismatch`](crate::ErrorKind::TypeMismatch) if the stored value is not a `T`; otherwise as for
    /// [`PkgData::get`].
    pub fn of(session: &Session) -> Result<Self> {
        let data = session.pkg(T::ID);
        let value = read(&data)?;
        Ok(Self { data, value })
    }

    /// Changes the value and writes it. If nothing is stored, `f` gets the default. If another handle of this
    /// transaction has changed the value, `f` gets the changed one. If it changes meanwhile, `f` runs again.
    ///
    /// # Errors
    ///
    /// As for [`PkgData::update`]. The value that this `Pkg` shows then stays as it was.
    pub fn update(&mut self, mut f: impl FnMut(&mut T)) -> Result<()> {
        self.value = self.data.update(KEY, |stored: Option<T>| {
            let mut value = stored.unwrap_or_default();
            f(&mut value);
            value
        })?;
        Ok(())
    }

    /// Replaces the value, whatever is stored.
    ///
    /// # Errors
    ///
    /// As for [`PkgData::insert`].
    pub fn set(&mut self, value: T) -> Result<()> {
        self.data.insert(KEY, &value)?;
        self.value = value;
        Ok(())
    }

    /// Removes the stored value. This `Pkg` then shows the default.
    ///
    /// # Errors
    ///
    /// As for [`PkgData::remove`].
    pub fn remove(&mut self) -> Result<()> {
        self.data.remove(KEY)?;
        self.value = T::default();
        Ok(())
    }

    /// Reads the value again.
    ///
    /// # Errors
    ///
    /// As for [`of`](Self::of).
    pub fn reload(&mut self) -> Result<()> {
        self.value = read(&self.data)?;
        Ok(())
    }
}

fn read<T: Package>(data: &PkgData) -> Result<T> {
    data.get(KEY).map(Option::unwrap_or_default)
}

impl<T> Pkg<T> {
    /// Returns the value.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for Pkg<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Shows the package id and not the value, which may be secret.
impl<T> fmt::Debug for Pkg<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pkg")
            .field("package", &self.data.id())
            .finish_non_exhaustive()
    }
}
