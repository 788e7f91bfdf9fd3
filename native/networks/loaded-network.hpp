// A network with its weights and adapters on a device.
#pragma once

#include "adapters/adapter.hpp"
#include "network.hpp"
#include "runtime/evaluator.hpp"

namespace ggflux {

// What a network is created from.
struct NetworkSpec {
    std::string kind;
    Machine machine;
    std::vector<std::string> files;
    std::vector<TensorEntry> table;
    std::map<std::string, double> config;
};

struct Evaluation {
    std::vector<std::vector<float>> outputs;
    std::vector<ProfileRow> profile;  // empty unless requested
};

class LoadedNetwork {
  public:
    // Loads the weights. Setting `cancel` stops any call. `cancel` must outlive the network. memory_limit (here and
    // below): bytes of this machine's memory.
    LoadedNetwork(const NetworkSpec & spec, size_t memory_limit, const std::atomic<bool> & cancel,
                  std::atomic<double> & progress);

    Evaluation run(const std::string & mode, const Shape & shape, const std::vector<Array> & inputs,
                   size_t memory_limit, bool profiled);

    // Replaces all adapters. `table` lists the adapters' tensors.
    void adapt(const std::vector<std::string> & files, std::vector<TensorEntry> table,
               const std::vector<AdapterSpec> & specs, size_t memory_limit);

    void trim() { evaluator_.trim(); }

    size_t copied_bytes() const { return weights_.copied_bytes(); }
    size_t mapped_bytes() const { return weights_.mapped_bytes(); }
    size_t compute_bytes() const { return evaluator_.compute_bytes(); }
    int nodes() const { return evaluator_.nodes(); }
    size_t max_nodes() const { return network_->max_nodes() + adapters_.max_nodes(); }

  private:
    Machine machine_;
    const std::atomic<bool> & cancel_;
    // Members are destroyed from the last to the first: graphs before the weights that they point to.
    Weights weights_;
    std::unique_ptr<Weights> adapter_weights_;
    Adapters adapters_;
    std::unique_ptr<Network> network_;
    Evaluator evaluator_;
};

// The bytes of activation buffers that the network would need. Reads no weights.
size_t measure(const NetworkSpec & spec, const std::string & mode, const Shape & shape,
               const std::atomic<bool> & cancel);

}  // namespace ggflux
