#include "autoencoder.hpp"
#include "clip-vision.hpp"
#include "clip.hpp"
#include "controlnet.hpp"
#include "flux.hpp"
#include "ip-adapter.hpp"
#include "redux.hpp"
#include "rrdb.hpp"
#include "siglip.hpp"
#include "t5.hpp"
#include "taesd.hpp"
#include "runtime/error.hpp"

namespace ggflux {

std::unique_ptr<Network> make_network(const std::string & kind, const Config & config, Weights & weights) {
    if (kind == "flux") return std::make_unique<Flux>(config, weights);
    if (kind == "t5") return std::make_unique<T5>(config, weights);
    if (kind == "clip") return std::make_unique<Clip>(config, weights);
    if (kind == "clip-vision") return std::make_unique<ClipVision>(config, weights);
    if (kind == "siglip") return std::make_unique<Siglip>(config, weights);
    if (kind == "redux") return std::make_unique<Redux>(config, weights);
    if (kind == "autoencoder") return std::make_unique<Autoencoder>(config, weights);
    if (kind == "tiny-decoder") return std::make_unique<TinyDecoder>(config, weights);
    if (kind == "controlnet") return std::make_unique<ControlNet>(config, weights);
    if (kind == "ip-adapter") return std::make_unique<IpAdapter>(config, weights);
    if (kind == "rrdb") return std::make_unique<Rrdb>(config, weights);
    throw Error("FLUX_BAD_OPTION", "there is no network called " + kind);
}

}  // namespace ggflux
