#include "loaded-network.hpp"

namespace ggflux {

LoadedNetwork::LoadedNetwork(const NetworkSpec & spec, size_t memory_limit, const std::atomic<bool> & cancel,
                             std::atomic<double> & progress)
    : machine_(spec.machine), cancel_(cancel), weights_(spec.files, spec.table),
      network_(make_network(spec.kind, Config(spec.config), weights_)), evaluator_(machine_, cancel) {
    weights_.load(evaluator_.device(), machine_, Weights::Mapping::allowed, memory_limit, cancel, progress);
}

Evaluation LoadedNetwork::run(const std::string & mode, const Shape & shape, const std::vector<Array> & inputs,
                              size_t memory_limit, bool profiled) {
    std::string key = mode;
    for (const int64_t n : shape) key += "," + std::to_string(n);
    const auto build = [&](Graph & g) {
        g.adapt(adapters_);
        network_->build(g, mode, shape);
    };
    Evaluation result;
    weights_.check_unchanged();
    result.outputs =
        evaluator_.run(key, max_nodes(), build, inputs, memory_limit, profiled ? &result.profile : nullptr);
    weights_.check_unchanged();  // whether they changed while the network ran
    return result;
}

void LoadedNetwork::adapt(const std::vector<std::string> & files, std::vector<TensorEntry> table,
                          const std::vector<AdapterSpec> & specs, size_t memory_limit) {
    auto weights = std::make_unique<Weights>(files, std::move(table));
    Adapters adapters = declare_adapters(specs, weights_, *weights);
    std::atomic<double> progress{0};
    weights->load(evaluator_.device(), machine_, Weights::Mapping::never, memory_limit, cancel_, progress);
    evaluator_.forget_graph();
    adapters_ = std::move(adapters);
    adapter_weights_ = std::move(weights);
}

size_t measure(const NetworkSpec & spec, const std::string & mode, const Shape & shape,
               const std::atomic<bool> & cancel) {
    Weights weights(spec.files, spec.table);
    const auto network = make_network(spec.kind, Config(spec.config), weights);
    Evaluator evaluator(spec.machine, cancel);
    weights.dry_load(evaluator.device(), spec.machine);
    return evaluator.measure(network->max_nodes(), [&](Graph & g) { network->build(g, mode, shape); });
}

}  // namespace ggflux
