// FLUX.1 Redux: the states of SigLIP as text tokens, after black-forest-labs/flux src/flux/modules/image_embedders.py
// (ReduxImageEncoder).
//
// mode "project", shape [n]; input: states [n, redux_dim]; output: text tokens [n, txt_in_features]
#pragma once

#include "blocks/blocks.hpp"
#include "network.hpp"

namespace ggflux {

class Redux : public Network {
  public:
    Redux(const Config & config, Weights & weights);
    void build(Graph & g, const std::string & mode, const Shape & shape) const override;
    size_t max_nodes() const override { return 2 * linear_nodes + 16; }

  private:
    int64_t redux_dim_;
    Linear redux_up_, redux_down_;
};

}  // namespace ggflux
