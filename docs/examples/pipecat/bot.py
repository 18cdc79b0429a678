"""A bot on pipecat that answers and makes telephone calls: it tells callers when their order comes.

The models are pipecat's services, each an extra of pipecat-ai: ``pip install "pipecat-ai[deepgram,openai,cartesia]"``.
Whatever the carrier, nothing here changes. Give ``agent`` to an ``Exchange`` of your own, or serve it with ``anycarrier
serve`` as the handler ``bot:agent``.
"""

import os

from pipecat.frames.frames import EndWorkerFrame, FunctionCallResultProperties, LLMRunFrame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.dtmf_aggregator import DTMFAggregator
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameDirection
from pipecat.workers.runner import WorkerRunner

from anycarrier_pipecat import CallTransport, TransferCallFrame, pipecat_agent

PROMPT = """You answer the telephone of a shop. Ask for the order number: callers say it, or press it and the hash key.
Say when the order comes. End the call when the caller has no more questions. Connect whoever asks for a person."""
DESK = "+14155550199"
SAY_NO_MORE = FunctionCallResultProperties(run_llm=False)


async def run_bot(transport, *, stt, llm, tts, **user_params):
    async def end_call(params):
        """Say goodbye and end the call."""
        await params.result_callback("ended", properties=SAY_NO_MORE)
        await params.llm.push_frame(TTSSpeakFrame("Goodbye."))
        await params.llm.push_frame(EndWorkerFrame(), FrameDirection.UPSTREAM)

    async def connect_to_a_person(params):
        """Connect the caller to somebody at the desk."""
        await params.result_callback("connected", properties=SAY_NO_MORE)
        await params.llm.push_frame(TTSSpeakFrame("I will put you through."))
        await params.llm.push_frame(TransferCallFrame(DESK))

    context = LLMContext([{"role": "developer", "content": PROMPT}], tools=[end_call, connect_to_a_person])
    aggregators = LLMContextAggregatorPair(context, user_params=LLMUserAggregatorParams(**user_params))
    worker = PipelineWorker(
        Pipeline(
            [
                transport.input(),
                stt,
                DTMFAggregator(),
                aggregators.user(),
                llm,
                tts,
                transport.output(),
                aggregators.assistant(),
            ]
        ),
        params=PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000),
    )

    @transport.event_handler("on_client_connected")
    async def on_client_connected(transport, client):
        await worker.queue_frame(LLMRunFrame())  # the model speaks first

    @transport.event_handler("on_client_disconnected")
    async def on_client_disconnected(transport, client):
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


async def bot(transport: CallTransport):
    from pipecat.audio.vad.silero import SileroVADAnalyzer
    from pipecat.services.cartesia.tts import CartesiaTTSService
    from pipecat.services.deepgram.stt import DeepgramSTTService
    from pipecat.services.openai.llm import OpenAILLMService

    voice = CartesiaTTSService.Settings(voice="71a7ad14-091c-4e8e-a314-022ece01c121")
    await run_bot(
        transport,
        stt=DeepgramSTTService(api_key=os.environ["DEEPGRAM_API_KEY"]),
        llm=OpenAILLMService(api_key=os.environ["OPENAI_API_KEY"]),
        tts=CartesiaTTSService(api_key=os.environ["CARTESIA_API_KEY"], settings=voice),
        vad_analyzer=SileroVADAnalyzer(),
    )


agent = pipecat_agent(bot)
