# ggml's RPC module ends the process when a server goes away. We compile a fixed copy: a request that gets no answer
# throws on the thread that made it, and freeing a buffer whose server is gone does nothing. GGML_ABORT also throws
# there (native/ggml/rpc-abort.h).
include(native/ggml/mend.cmake)
mend_begin(ggml-rpc ggml-rpc.cpp)

# the request queue: waiting requests can be removed when the connection ends
mend("    void interrupt() {" "    std::queue<T> drain() {
        std::unique_lock<std::mutex> lock(mutex);
        interrupted = true;
        std::queue<T> rest;
        rest.swap(queue);
        return rest;
    }

    void interrupt() {")
mend("    void work();" "    void work();

    template <class Message> void lost(const Message & unanswered) {
        const auto error = std::make_exception_ptr(std::runtime_error(\"FLUX_DEVICE: the connection to the RPC server was lost\"));
        unanswered->completion.set_exception(error);
        for (auto rest = queue.drain(); !rest.empty(); rest.pop()) rest.front()->completion.set_exception(error);
    }
")
mend("                RPC_STATUS_ASSERT(status);" "                if (!status) return lost(msg_ptr);")
# waiting for an answer rethrows the exception
mend("    future.wait();" "    future.get();")
mend("get_future().wait();" "get_future().get();")
mend("    ctx->dispatcher->send(RPC_CMD_FREE_BUFFER, request, sizeof(*request));"
     "    try { ctx->dispatcher->send(RPC_CMD_FREE_BUFFER, request, sizeof(*request)); } catch (const std::exception &) {}")

mend_end()
target_include_directories(ggml-rpc PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/ggml/src/ggml-rpc)
