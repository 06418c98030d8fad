// Serial queues. Compiled without ARC.
#include <Block.h>

#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <deque>
#include <future>
#include <memory>
#include <mutex>
#include <thread>

#import "drivers/vz/facsimile/foundation/foundation.h"

namespace {

// What queue and thread share: it outlives whichever ends first.
struct Work {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<dispatch_block_t> blocks;
  bool over = false;
};

// The work of the queue that the thread belongs to.
thread_local const Work* t_work = nullptr;  // NOLINT(readability-identifier-naming)

void Serve(const std::shared_ptr<Work>& work) {
  t_work = work.get();
  while (true) {
    dispatch_block_t block = nullptr;
    {
      std::unique_lock lock(work->mutex);
      work->changed.wait(lock, [&] { return work->over || !work->blocks.empty(); });
      if (work->blocks.empty()) return;
      block = work->blocks.front();
      work->blocks.pop_front();
    }
    @autoreleasepool {
      block();
      Block_release(block);
    }
  }
}

void DieOfMisuse(const char* what) {
  std::fprintf(stderr, "BUG IN CLIENT OF LIBDISPATCH (simulated): %s\n", what);
  std::raise(SIGTRAP);
}

}  // namespace

@interface MayflyQueue : NSObject <OS_dispatch_queue> {
 @public
  std::shared_ptr<Work> work;
}
@end
@implementation MayflyQueue
// The thread goes when its blocks are done, which may be what releases the queue.
- (void)dealloc {
  {
    std::lock_guard lock(work->mutex);
    work->over = true;
  }
  work->changed.notify_all();
  [super dealloc];
}
@end

static MayflyQueue* QueueOf(dispatch_queue_t queue) { return static_cast<MayflyQueue*>(queue); }

extern "C" {

dispatch_queue_t dispatch_queue_create(const char*, dispatch_queue_attr_t) {
  MayflyQueue* queue = [[MayflyQueue alloc] init];
  queue->work = std::make_shared<Work>();
  std::thread(Serve, queue->work).detach();
  return queue;
}

void dispatch_async(dispatch_queue_t queue, dispatch_block_t block) {
  Work& work = *QueueOf(queue)->work;
  {
    std::lock_guard lock(work.mutex);
    work.blocks.push_back(Block_copy(block));
  }
  work.changed.notify_all();
}

void dispatch_sync(dispatch_queue_t queue, __attribute__((noescape)) dispatch_block_t block) {
  if (t_work == QueueOf(queue)->work.get())
    DieOfMisuse("dispatch_sync called on queue already owned by current thread");
  void* borrowed = (void*)block;  // this waits until it has run, so it is not copied
  auto done = std::make_shared<std::promise<void>>();
  dispatch_async(queue, ^{
    ((dispatch_block_t)borrowed)();
    done->set_value();
  });
  done->get_future().wait();
}

void dispatch_assert_queue(dispatch_queue_t queue) {
  if (t_work != QueueOf(queue)->work.get()) DieOfMisuse("Block was expected to execute on queue of the VM");
}
}
