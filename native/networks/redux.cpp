#include "redux.hpp"

namespace ggflux {

Redux::Redux(const Config & config, Weights & w) : redux_dim_(config.get("reduxDim", 1, 1 << 16)) {
    const int64_t out = config.get("txtInFeatures", 1, 1 << 16);
    redux_up_ = w.linear("redux_up", redux_dim_, 3 * out);
    redux_down_ = w.linear("redux_down", 3 * out, out);
}

void Redux::build(Graph & g, const std::string & mode, const Shape & shape) const {
    if (mode != "project") bad_mode(mode);
    ggml_tensor * states = g.input({redux_dim_, dimension(shape, 0, 1, 1 << 14, "the number of states")});
    g.output(linear(g, redux_down_, ggml_silu(g.ctx(), linear(g, redux_up_, states))));
}

}  // namespace ggflux
