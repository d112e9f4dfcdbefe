from monitor.incidents.resend import Refresher


def refreshing(engine, reach, clock):
    return Refresher(engine=engine, environment=reach.environment, utcnow=clock).refresh
