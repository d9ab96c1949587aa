"""Networks as pairs of pure functions, from features to outputs."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen
from jax import Array

from rlgd.errors import UsageError
from rlgd.models.attention import Attention
from rlgd.models.own import Torso, check_sizes
from rlgd.models.recurrent import CELLS, Recurrence
from rlgd.models.torsos import MLP, READERS, ImageMLP, NetworkOutput, OutputLayer, RecurrentMLP, SimBa
from rlgd.pytrees import Features, Scalar

COMPUTE_DTYPES = ("float32", "bfloat16")
DEFAULT_MEMORY_WIDTH, DEFAULT_MEMORY_WINDOW = 64, 16


class Network(NamedTuple):
    """``init(key) -> params``, ``read(params, features, key=None) -> NetworkOutput`` and ``apply``: the outputs alone.

    With a key, hidden units are dropped at random if the network has ``dropout``; without a key, none is.
    ``memory_size`` numbers are kept of each environment; None: it has no memory.
    """

    init: Callable[[Array], Any]
    read: Callable[..., NetworkOutput]
    memory_size: int | None = None

    def apply(self, params: Any, features: Features, key: Array | None = None) -> Array:
        """``[..., outputs]``."""
        return self.read(params, features, key).outputs

    def blank_memory(self, num_envs: int) -> Array | None:
        """Its memory before the first step, ``[N, size]``; None without one."""
        return None if self.memory_size is None else jnp.zeros((num_envs, self.memory_size))


def memory_layer(kind: str, width: int | None = None, window: int | None = None) -> Recurrence | Attention | None:
    """The layer of a network that remembers, by the network's name; None if it has none."""
    width = DEFAULT_MEMORY_WIDTH if width is None else width
    if kind == "attention":
        return Attention(width, DEFAULT_MEMORY_WINDOW if window is None else window)
    return Recurrence(kind, width) if kind in CELLS else None


def network(
    inputs: int,
    outputs: int,
    hidden_sizes: tuple[int, ...] = (64, 64),
    activation: str = "tanh",
    initialization: str = "orthogonal",
    output_scale: float = 1.0,
    dropout: Scalar | None = None,
    images: tuple[tuple[int, int, int], ...] = (),
    kind: str | Torso = "mlp",
    memory: Recurrence | Attention | None = None,
    compute_dtype: str = "float32",
) -> Network:
    """A network of one of the ``NETWORKS``, or of the layers of a user, which ``hidden_sizes`` and the outputs follow.

    Biases start at 0.

    Args:
        inputs: the width of ``Features.vector``.
        outputs: the number of outputs.
        hidden_sizes: the width of each hidden layer.
        activation: one of ``ACTIVATIONS``, after each hidden layer.
        initialization: one of ``INITIALIZATIONS``.
        output_scale: factor of the last layer's initial weights.
        dropout: the share of each hidden layer's units that is dropped when ``read`` is given a key.
        images: height, width and channels of each of ``Features.images``.
        kind: one of ``NETWORKS``, or the layers of a user.
        memory: its layer that remembers, see ``memory_layer``.
        compute_dtype: one of ``COMPUTE_DTYPES``, of the arithmetic; parameters and outputs keep their own.

    Raises:
        UsageError: for hidden layers that the network cannot have.
    """
    sizes = (*hidden_sizes, outputs)
    check_sizes({"network": kind}, hidden_sizes)
    if kind == "simba":
        mlp: MLP | SimBa = SimBa(sizes, activation, initialization, output_scale)
    else:
        mlp = MLP(sizes, activation, initialization, output_scale, layer_norm=kind == "layer_norm")
    memory_size = kind.memory_size if isinstance(kind, Torso) else None if memory is None else memory.memory_size

    def blank() -> Features:
        features = Features(jnp.zeros((1, inputs)), tuple(jnp.zeros((1, *shape)) for shape in images))
        if memory_size is None:
            return features
        return features._replace(first=jnp.ones(1, bool), memory=jnp.zeros((1, memory_size)))

    if isinstance(kind, Torso):
        return _with_dtype(_after(kind, mlp, blank, dropout), memory_size, compute_dtype)
    if memory is not None:
        assert isinstance(mlp, MLP)
        functions = _of_module(RecurrentMLP(mlp, memory), _all_features, blank, dropout)
    elif images:
        functions = _of_module(ImageMLP(mlp, str(kind)), _all_features, blank, dropout)
    elif kind in READERS:
        raise UsageError(f"the network is {kind!r}, but the observations it reads hold no image; choose another one.")
    else:
        functions = _of_module(mlp, _vector, blank, dropout)
    return _with_dtype(functions, memory_size, compute_dtype)


OUTPUTS = "OutputLayer_0"  # the name of the last layer's parameters


def outputs_of(params: Any) -> Any:
    """The parameters of a network's outputs."""
    return params[OUTPUTS] if OUTPUTS in params else outputs_of(params["mlp"])


def outputs_on(params: Any, output: NetworkOutput) -> NetworkOutput:
    """Other outputs, with these parameters, on the last hidden layer of what a network returned."""
    layer = OutputLayer(params["kernel"].shape[0], jax.nn.initializers.zeros)
    outputs: Any = layer.apply({"params": params}, output.hidden)
    return output._replace(outputs=outputs)


def only(inner: Network, columns: Sequence[int], images: Sequence[int]) -> Network:
    """A network that reads some of the features: these numbers of the vector, and these images."""

    def read(params: Any, features: Features, key: Array | None = None) -> NetworkOutput:
        vector = features.vector[..., jnp.asarray(columns, jnp.int32)]
        read = features._replace(vector=vector, images=tuple(features.images[i] for i in images))
        return inner.read(params, read, key)

    return inner._replace(read=read)


def are_alike(wide: Any, other: Any) -> bool:
    """Whether two networks with these parameters can be read together: they differ in the number of outputs at most."""
    structures: list[Any] = [jax.tree.structure(tree) for tree in (wide, other)]
    if structures[0] != structures[1]:
        return False
    pairs = zip(jax.tree.leaves(wide), jax.tree.leaves(other), strict=True)
    return all(a.shape[1:] == b.shape[1:] and a.shape[0] >= b.shape[0] for a, b in pairs)


def read_together(
    wide: Network, params: tuple[Any, Any], features: tuple[Features, Features], keys: tuple[Any, Any] = (None, None)
) -> tuple[NetworkOutput, NetworkOutput]:
    """What two networks of the same layers read, computed as one network with an axis more.

    Args:
        wide: the network of the first parameters, which has at least as many outputs as the other one.
        params: of both, which ``are_alike``.
        features: for both; they may differ in the memory only.
        keys: for both, as for ``Network.read``.

    Returns:
        Both results; the second one has the outputs of ``wide``, of which only its own are not 0.
    """

    def stack(first: Array, second: Array) -> Array:
        missing = [(0, more - size) for more, size in zip(first.shape, second.shape, strict=True)]
        return jnp.stack([first, jnp.pad(second, missing)])

    def read(params: Any, vector: Array, memory: Any, key: Any) -> NetworkOutput:
        return wide.read(params, features[0]._replace(vector=vector, memory=memory), key)

    # Inputs with the axis too: with one for both, the gradient of the first layer needs a transposed copy.
    stacked = jax.tree.map(stack, *params)
    memory, key = (jax.tree.map(lambda *pair: jnp.stack(pair), *pair) for pair in ([f.memory for f in features], keys))
    both = jax.vmap(read)(stacked, jnp.stack([features[0].vector] * 2), memory, key)
    return jax.tree.map(lambda x: x[0], both), jax.tree.map(lambda x: x[1], both)


def _cast(tree: Any, dtype: Any) -> Any:
    """A tree with another dtype in place of that of its floats."""
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


# Init and read of a network in the dtype of its parameters.
Functions = tuple[Callable[[Array], Any], Callable[..., NetworkOutput]]


def _all_features(features: Features) -> Features:
    return features


def _vector(features: Features) -> Array:
    return features.vector


def _of_module(
    module: linen.Module, inputs: Callable[[Features], Any], blank: Callable[[], Features], dropout: Scalar | None
) -> Functions:
    """A module that is called with ``inputs(features)`` as functions of parameters; ``blank`` gives the shapes."""

    def init(key: Array) -> Any:
        return module.init(key, inputs(blank()))["params"]

    def read(params: Any, features: Features, key: Array | None = None) -> Any:
        return module.apply({"params": params}, inputs(features), dropout, key)

    return init, read


def _after(torso: Torso, mlp: linen.Module, blank: Callable[[], Features], dropout: Scalar | None) -> Functions:
    """The layers of a user, then ``mlp``."""

    def hidden_of(params: Any, features: Features) -> tuple[Array, Array | None]:
        result = torso.apply(params, features)
        hidden, memory = (result, None) if torso.memory_size is None else result
        batch = (features.vector if features.first is None else features.first[..., None]).shape[:-1]
        if getattr(hidden, "shape", (None,))[:-1] != batch:
            raise UsageError(f"the network returns {jnp.shape(hidden)} for features {batch}; expected (*batch, width).")
        return hidden, memory

    def init(key: Array) -> Any:
        torso_key, mlp_key = jax.random.split(key)
        features = blank()
        params = torso.init(torso_key, features)
        return {"torso": params, "mlp": mlp.init(mlp_key, hidden_of(params, features)[0])["params"]}

    def read(params: Any, features: Features, key: Array | None = None) -> Any:
        hidden, memory = hidden_of(params["torso"], features)
        output: Any = mlp.apply({"params": params["mlp"]}, hidden, dropout, key)
        return output._replace(memory=memory)

    return init, read


def _with_dtype(functions: Functions, memory_size: int | None, compute_dtype: str) -> Network:
    """The network whose arithmetic has this dtype."""
    init, read = functions
    if compute_dtype == "float32":
        return Network(init, read, memory_size)

    def read_low(params: Any, features: Features, key: Array | None = None) -> Any:
        low_params, low_features = _cast((params, features), jnp.bfloat16)
        return _cast(read(low_params, low_features, key), features.vector.dtype)

    return Network(init, read_low, memory_size)
