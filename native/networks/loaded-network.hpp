// A network with its weights, adapters and attachments on a device.
#pragma once

#include "adapters/adapter.hpp"
#include "network.hpp"
#include "runtime/evaluator.hpp"

namespace ggflux {

// What an attachment is created from.
struct AttachmentSpec {
    std::string kind;
    std::vector<std::string> files;
    std::vector<TensorEntry> table;
    std::map<std::string, double> config;
};

// What a network is created from.
struct NetworkSpec : AttachmentSpec {
    Machine machine;
};

// A network with the weights that it points to.
struct WeightedNetwork {
    explicit WeightedNetwork(const AttachmentSpec & spec)
        : weights(spec.files, spec.table), network(make_network(spec.kind, Config(spec.config), weights)) {}

    Weights weights;
    std::unique_ptr<Network> network;
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

    // Replaces all attachments. An index means the attachment that has this index now. If loading fails, none is left.
    void attach(const std::vector<std::variant<size_t, AttachmentSpec>> & specs, size_t memory_limit,
                std::atomic<double> & progress);

    void trim() { evaluator_.trim(); }

    size_t copied_bytes() const;
    size_t mapped_bytes() const;
    size_t compute_bytes() const { return evaluator_.compute_bytes(); }
    int nodes() const { return evaluator_.nodes(); }
    size_t max_nodes() const { return max_nodes_; }  // of the evaluation that ran last

  private:
    void check_unchanged() const;

    Machine machine_;
    const std::atomic<bool> & cancel_;
    // Members are destroyed from the last to the first: graphs before the weights that they point to.
    WeightedNetwork own_;
    std::unique_ptr<Weights> adapter_weights_;
    Adapters adapters_;
    std::vector<std::shared_ptr<WeightedNetwork>> attached_;
    Attachments attachments_;  // the networks of attached_
    Evaluator evaluator_;
    size_t max_nodes_ = 0;
};

// The bytes of activation buffers that the network would need. Reads no weights.
size_t measure(const NetworkSpec & spec, const std::string & mode, const Shape & shape,
               const std::vector<AttachmentSpec> & attachments, const std::atomic<bool> & cancel);

}  // namespace ggflux
