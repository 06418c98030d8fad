// What mayfly-vz uses of libdispatch, for Linux: serial queues, each with a thread of its own.
#pragma once

#include <stdint.h>

@protocol NSObject;
@class NSObject;
@protocol OS_dispatch_queue <NSObject>
@end
@protocol OS_dispatch_queue_attr <NSObject>
@end
typedef NSObject<OS_dispatch_queue>* dispatch_queue_t;
typedef NSObject<OS_dispatch_queue_attr>* dispatch_queue_attr_t;
typedef void (^dispatch_block_t)(void);
#define DISPATCH_QUEUE_SERIAL ((dispatch_queue_attr_t) nullptr)

#ifdef __cplusplus
extern "C" {
#endif
dispatch_queue_t _Nonnull dispatch_queue_create(const char* _Nullable label, dispatch_queue_attr_t _Nullable attributes)
    __attribute__((ns_returns_retained));
void dispatch_async(dispatch_queue_t _Nonnull queue, dispatch_block_t _Nonnull block);
// Ends the process when it is called on the queue itself, where Apple's would wait for ever or trap.
void dispatch_sync(dispatch_queue_t _Nonnull queue, __attribute__((noescape)) dispatch_block_t _Nonnull block);
// Ends the process by SIGTRAP anywhere else, as Apple's does.
void dispatch_assert_queue(dispatch_queue_t _Nonnull queue);
#ifdef __cplusplus
}
#endif
