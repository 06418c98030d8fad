#include "drivers/vz/helper/virtual_machine.h"

#include <utility>

#include "drivers/vz/helper/framework_error.h"

// Hears of a guest's end. The machine refers to it weakly.
@interface MayflyDelegate : NSObject <VZVirtualMachineDelegate>
@property(nonatomic, copy, nullable) void (^mayflyStopped)(NSError* _Nullable error);
@end

@implementation MayflyDelegate
- (void)guestDidStopVirtualMachine:(VZVirtualMachine*)machine {
  if (self.mayflyStopped != nil) self.mayflyStopped(nil);
}
- (void)virtualMachine:(VZVirtualMachine*)machine didStopWithError:(NSError*)error {
  if (self.mayflyStopped != nil) self.mayflyStopped(error);
}
@end

namespace mayfly::vz {
namespace {

using nlohmann::json;

const char* NameOf(VZVirtualMachineState state) {
  static constexpr const char* kNames[] = {"stopped", "running",  "paused",   "error",  "starting",
                                           "pausing", "resuming", "stopping", "saving", "restoring"};
  auto index = static_cast<size_t>(state);
  return index < std::size(kNames) ? kNames[index] : "unknown";
}

}  // namespace

// Lives as long as a block of the queue needs it. All members but the queue are used on the queue only.
class VirtualMachine::State : public std::enable_shared_from_this<State> {
 public:
  explicit State(Events events) : events_(std::move(events)) {
    queue_ = dispatch_queue_create("org.mayfly.vz.machine", DISPATCH_QUEUE_SERIAL);
  }

  void Open(VZVirtualMachineConfiguration* configuration) {
    machine_ = [[VZVirtualMachine alloc] initWithConfiguration:configuration queue:queue_];
    delegate_ = [[MayflyDelegate alloc] init];
    std::weak_ptr<State> weak = weak_from_this();
    delegate_.mayflyStopped = ^(NSError* error) {
      if (auto self = weak.lock()) self->Stopped(error);
    };
    machine_.delegate = delegate_;
  }

  // The last reference to the machine goes on its queue.
  void Close() {
    events_ = {};
    machine_.delegate = nil;
    machine_ = nil;
    delegate_ = nil;
  }

  dispatch_queue_t queue() const { return queue_; }

  // `use` gets the machine and a handler for the framework, which may be called later. Whatever it throws is told.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): the block has a copy of `done`, never a reference
  void Use(const char* doing, Done done, void (^use)(VZVirtualMachine* machine, void (^handler)(NSError* error))) {
    std::shared_ptr<State> self = shared_from_this();
    void (^handler)(NSError*) = ^(NSError* error) {
      self->TellState();
      done(error == nil ? json() : ToJson(error, doing));
    };
    dispatch_async(queue_, ^{
      if (self->machine_ == nil) return;  // closed
      @try {
        use(self->machine_, handler);
        self->TellState();
      } @catch (NSException* exception) {
        done(ToJson(exception, doing));
      }
    });
  }

 private:
  void TellState() {
    if (machine_ == nil || !events_.state) return;
    VZVirtualMachineState now = machine_.state;
    if (now != std::exchange(told_, now)) events_.state(NameOf(now));
  }

  void Stopped(NSError* error) {
    TellState();
    if (events_.stopped) events_.stopped(error == nil ? json() : ToJson(error, "the virtual machine ended"));
  }

  Events events_;
  dispatch_queue_t queue_;
  VZVirtualMachine* machine_;
  MayflyDelegate* delegate_;
  VZVirtualMachineState told_ = VZVirtualMachineStateStopped;
};

VirtualMachine::VirtualMachine(VZVirtualMachineConfiguration* configuration, Events events)
    : state_(std::make_shared<State>(std::move(events))) {
  std::shared_ptr<State> state = state_;
  dispatch_sync(state->queue(), ^{
    state->Open(configuration);
  });
}

VirtualMachine::~VirtualMachine() {
  std::shared_ptr<State> state = state_;
  dispatch_sync(state->queue(), ^{
    state->Close();
  });
}

void VirtualMachine::Start(Done done) {
  state_->Use("cannot start", std::move(done), ^(VZVirtualMachine* machine, void (^handler)(NSError*)) {
    [machine startWithCompletionHandler:handler];
  });
}

void VirtualMachine::Stop(Done done) {
  state_->Use("cannot stop", std::move(done), ^(VZVirtualMachine* machine, void (^handler)(NSError*)) {
    bool down = machine.state == VZVirtualMachineStateStopped || machine.state == VZVirtualMachineStateError;
    if (down) return handler(nil);
    [machine stopWithCompletionHandler:handler];
  });
}

void VirtualMachine::RequestStop(Done done) {
  state_->Use("cannot press the power button", std::move(done),
              ^(VZVirtualMachine* machine, void (^handler)(NSError*)) {
                NSError* error = nil;
                handler([machine requestStopWithError:&error] ? nil : error);
              });
}

void VirtualMachine::Reset(Done done) {
  state_->Use("cannot reset", std::move(done), ^(VZVirtualMachine* machine, void (^handler)(NSError*)) {
    [machine stopWithCompletionHandler:^(NSError* error) {
      if (error != nil) return handler(error);
      [machine startWithCompletionHandler:handler];
    }];
  });
}

void VirtualMachine::Pause(Done done) {
  state_->Use("cannot pause", std::move(done), ^(VZVirtualMachine* machine, void (^handler)(NSError*)) {
    [machine pauseWithCompletionHandler:handler];
  });
}

void VirtualMachine::Resume(Done done) {
  state_->Use("cannot resume", std::move(done), ^(VZVirtualMachine* machine, void (^handler)(NSError*)) {
    [machine resumeWithCompletionHandler:handler];
  });
}

void VirtualMachine::SetBalloonTarget(uint64_t memory, Done done) {
  state_->Use("cannot set the balloon", std::move(done), ^(VZVirtualMachine* machine, void (^handler)(NSError*)) {
    VZMemoryBalloonDevice* device = machine.memoryBalloonDevices.firstObject;
    if ([device isKindOfClass:[VZVirtioTraditionalMemoryBalloonDevice class]]) {
      static_cast<VZVirtioTraditionalMemoryBalloonDevice*>(device).targetVirtualMachineMemorySize = memory;
    }
    handler(nil);
  });
}

}  // namespace mayfly::vz
