//! The kinds of transforms, by the names that users write.

use std::str::FromStr;

/// A kind of transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// One rotation of the residual stream, taken up by all weights around it.
    RotateResidual,
    /// A rotation between two linear layers with nothing but linear maps between.
    RotateHeads,
    /// A fast Hadamard transform of a layer's input while the model runs.
    RotateOnline,
    /// Scales that move outliers from activations to weights.
    Smooth,
    /// Scales that give weights more levels where activations are large (AWQ, arXiv 2306.00978).
    Awq,
    /// Constants that move activations to the middle of their range.
    Shift,
    /// An order of features in which neighbours that share a scale are alike.
    Permute,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 7] = [
        Kind::RotateResidual,
        Kind::RotateHeads,
        Kind::RotateOnline,
        Kind::Smooth,
        Kind::Awq,
        Kind::Shift,
        Kind::Permute,
    ];

    /// Those to choose among where nothing else is said: all but `awq`, whose scales `smooth` finds as well.
    pub fn usual() -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| *kind != Kind::Awq).collect()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::RotateResidual => "rotate-residual",
            Kind::RotateHeads => "rotate-heads",
            Kind::RotateOnline => "rotate-online",
            Kind::Smooth => "smooth",
            Kind::Awq => "awq",
            Kind::Shift => "shift",
            Kind::Permute => "permute",
        }
    }

    /// Whether it is a matrix in a basis.
    pub fn has_basis(self) -> bool {
        matches!(self, Kind::RotateResidual | Kind::RotateHeads)
    }

    /// Whether it is work while the model runs.
    pub fn is_online(self) -> bool {
        self == Kind::RotateOnline
    }
}

/// Kinds by name, with `+` between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds(pub Vec<Kind>);

impl FromStr for Kinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Kinds, String> {
        let names = || Kind::ALL.iter().map(|k| k.name());
        let kind = |name: &str| {
            Kind::ALL.into_iter().find(|k| k.name() == name).ok_or_else(|| {
                let hint = qcc_ir::names::near_match(name, names());
                format!(
                    "there is no transform `{name}`{hint}; use {}",
                    names().collect::<Vec<_>>().join(", ")
                )
            })
        };
        Ok(Kinds(text.split('+').map(kind).collect::<Result<_, _>>()?))
    }
}

/// The matrix of a rotation that weights take up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// A Hadamard matrix.
    Hadamard,
    /// A Hadamard matrix with random signs.
    RandomHadamard,
    /// Eigenvectors of the covariance times that (MambaQuant): all channels get the same variance.
    KltHadamard,
    /// Plane rotations that give all channels the same variance, whatever their number.
    Givens,
}

impl Basis {
    /// Whether it has random signs.
    pub fn is_random(self) -> bool {
        matches!(self, Basis::RandomHadamard | Basis::KltHadamard)
    }
}

impl FromStr for Basis {
    type Err = String;

    fn from_str(text: &str) -> Result<Basis, String> {
        Ok(match text {
            "hadamard" => Basis::Hadamard,
            "random-hadamard" => Basis::RandomHadamard,
            "klt-hadamard" => Basis::KltHadamard,
            "givens" => Basis::Givens,
            _ => return Err("use hadamard, random-hadamard, klt-hadamard or givens".into()),
        })
    }
}
