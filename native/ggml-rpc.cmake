# ggml's RPC module ends the process when a server goes away. It is compiled from a mended copy: a request that gets no answer throws, from
# the thread that made it, and freeing a buffer whose server is gone does nothing. GGML_ABORT throws there too (native/rpc-abort.h).
set(source ${CMAKE_CURRENT_SOURCE_DIR}/ggml/src/ggml-rpc/ggml-rpc.cpp)
set(mended ${CMAKE_BINARY_DIR}/mended/ggml-rpc.cpp)
file(READ ${source} text)

function(mend old new)
    string(FIND "${text}" "${old}" found)
    if (found EQUAL -1)
        message(FATAL_ERROR "ggml-rpc.cpp has changed: it holds no '${old}'")
    endif()
    string(REPLACE "${old}" "${new}" text "${text}")
    set(text "${text}" PARENT_SCOPE)
endfunction()

# the queue of requests: what waits can be taken out when the connection ends
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
# waiting for an answer passes the exception on
mend("    future.wait();" "    future.get();")
mend("get_future().wait();" "get_future().get();")
mend("    ctx->dispatcher->send(RPC_CMD_FREE_BUFFER, request, sizeof(*request));"
     "    try { ctx->dispatcher->send(RPC_CMD_FREE_BUFFER, request, sizeof(*request)); } catch (const std::exception &) {}")

file(CONFIGURE OUTPUT ${mended} CONTENT "${text}" @ONLY)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
get_target_property(sources ggml-rpc SOURCES)
list(TRANSFORM sources REPLACE "^ggml-rpc.cpp$" ${mended})
set_property(TARGET ggml-rpc PROPERTY SOURCES ${sources})
