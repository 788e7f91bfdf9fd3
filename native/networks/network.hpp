// The common parts of all networks: a configuration, weights, and a graph for each mode and shape.
#pragma once

#include "runtime/graph.hpp"
#include "weights/weights.hpp"

#include <map>
#include <memory>
#include <string>

namespace ggflux {

using Shape = std::vector<int64_t>;

// The numbers of a configuration, by name. Reading one checks that it exists, that it is a whole number, and that it is
// in a range that cannot overflow later.
class Config {
  public:
    explicit Config(std::map<std::string, double> values) : values_(std::move(values)) {}
    int64_t get(const std::string & name, int64_t least = 1, int64_t most = 1 << 20) const;
    float real(const std::string & name) const;
    bool flag(const std::string & name) const { return get(name, 0, 1) != 0; }

  private:
    std::map<std::string, double> values_;
};

class Network;

// Networks that another network evaluates as parts of its own graph. Only the transformer has any.
struct Attachments {
    std::vector<const Network *> networks;
};

class Network {
  public:
    virtual ~Network() = default;

    // Declares the inputs, computes, and declares the outputs. Throws Error if the mode or shape is not possible.
    virtual void build(Graph & g, const std::string & mode, const Shape & shape) const = 0;
    // an upper bound for the number of nodes in a graph that `build` creates
    virtual size_t max_nodes() const = 0;
    // what the attachments that `shape` names add to this bound
    virtual size_t attached_nodes(const Attachments &, const Shape &) const { return 0; }
};

// See registry.cpp for the kinds. Declares all tensors to `weights`. The caller then loads `weights`.
std::unique_ptr<Network> make_network(const std::string & kind, const Config & config, Weights & weights);

// dimension `i` of a shape, checked against a range
int64_t dimension(const Shape & shape, size_t i, int64_t least, int64_t most, const char * name);
[[noreturn]] void bad_mode(const std::string & mode);

}  // namespace ggflux
