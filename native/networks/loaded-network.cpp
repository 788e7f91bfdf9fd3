#include "loaded-network.hpp"

#include "runtime/error.hpp"

#include <algorithm>

namespace ggflux {

LoadedNetwork::LoadedNetwork(const NetworkSpec & spec, size_t memory_limit, const std::atomic<bool> & cancel,
                             std::atomic<double> & progress)
    : machine_(spec.machine), cancel_(cancel), own_(spec), evaluator_(machine_, cancel) {
    own_.weights.load(evaluator_.device(), machine_, Weights::Mapping::allowed, memory_limit, cancel, progress);
}

Evaluation LoadedNetwork::run(const std::string & mode, const Shape & shape, const std::vector<Array> & inputs,
                              size_t memory_limit, bool profiled) {
    std::string key = mode;
    for (const int64_t n : shape) key += "," + std::to_string(n);
    const auto build = [&](Graph & g) {
        g.adapt(adapters_);
        g.attach(attachments_);
        own_.network->build(g, mode, shape);
    };
    max_nodes_ = own_.network->max_nodes() + adapters_.max_nodes() + own_.network->attached_nodes(attachments_, shape);
    Evaluation result;
    check_unchanged();
    result.outputs = evaluator_.run(key, max_nodes_, build, inputs, memory_limit, profiled ? &result.profile : nullptr);
    check_unchanged();  // whether they changed while the network ran
    return result;
}

void LoadedNetwork::adapt(const std::vector<std::string> & files, std::vector<TensorEntry> table,
                          const std::vector<AdapterSpec> & specs, size_t memory_limit) {
    auto weights = std::make_unique<Weights>(files, std::move(table));
    Adapters adapters = declare_adapters(specs, own_.weights, *weights);
    std::atomic<double> progress{0};
    weights->load(evaluator_.device(), machine_, Weights::Mapping::never, memory_limit, cancel_, progress);
    evaluator_.forget_graph();
    adapters_ = std::move(adapters);
    adapter_weights_ = std::move(weights);
}

void LoadedNetwork::attach(const std::vector<std::variant<size_t, AttachmentSpec>> & specs, size_t memory_limit,
                           std::atomic<double> & progress) {
    std::vector<std::shared_ptr<WeightedNetwork>> wanted;
    std::vector<WeightedNetwork *> added;
    for (const auto & spec : specs) {
        if (const size_t * index = std::get_if<size_t>(&spec)) {
            if (*index >= attached_.size()) throw Error("FLUX_BAD_OPTION", "there is no such attachment to keep");
            wanted.push_back(attached_[*index]);
        } else {
            wanted.push_back(std::make_shared<WeightedNetwork>(std::get<AttachmentSpec>(spec)));
            added.push_back(wanted.back().get());
        }
    }
    // What is not kept is freed before anything is loaded, so that memory never holds both.
    evaluator_.forget_graph();
    attachments_.networks.clear();
    attached_.clear();
    for (WeightedNetwork * network : added) {
        network->weights.load(evaluator_.device(), machine_, Weights::Mapping::allowed, memory_limit, cancel_,
                              progress);
        memory_limit -= std::min(memory_limit, network->weights.copied_bytes());
    }
    attached_ = std::move(wanted);
    for (const auto & network : attached_) attachments_.networks.push_back(network->network.get());
}

size_t LoadedNetwork::copied_bytes() const {
    size_t bytes = own_.weights.copied_bytes();
    for (const auto & network : attached_) bytes += network->weights.copied_bytes();
    return bytes;
}

size_t LoadedNetwork::mapped_bytes() const {
    size_t bytes = own_.weights.mapped_bytes();
    for (const auto & network : attached_) bytes += network->weights.mapped_bytes();
    return bytes;
}

void LoadedNetwork::check_unchanged() const {
    own_.weights.check_unchanged();
    for (const auto & network : attached_) network->weights.check_unchanged();
}

size_t measure(const NetworkSpec & spec, const std::string & mode, const Shape & shape,
               const std::vector<AttachmentSpec> & attachments, const std::atomic<bool> & cancel) {
    WeightedNetwork own(spec);
    Evaluator evaluator(spec.machine, cancel);
    own.weights.dry_load(evaluator.device(), spec.machine);
    std::vector<std::unique_ptr<WeightedNetwork>> attached;
    Attachments networks;
    for (const AttachmentSpec & attachment : attachments) {
        attached.push_back(std::make_unique<WeightedNetwork>(attachment));
        attached.back()->weights.dry_load(evaluator.device(), spec.machine);
        networks.networks.push_back(attached.back()->network.get());
    }
    return evaluator.measure(own.network->max_nodes() + own.network->attached_nodes(networks, shape), [&](Graph & g) {
        g.attach(networks);
        own.network->build(g, mode, shape);
    });
}

}  // namespace ggflux
