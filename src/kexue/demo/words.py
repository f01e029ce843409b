"""Words and templates of the generated notices; `kexue.demo.notices` puts them together.

A template is a sentence with slots: ``{place}`` and ``{places}`` (a short list), ``{many}`` (a long list),
``{temps} {rains} {winds}`` (a list of places, each
with its value), ``{met}`` (a weather service), ``{org} {orgs} {spot} {spots}
{route} {routes} {time} {weather} {weathers} {gale} {warning} {upgrade}`` and the values ``{temp} {drop} {wind} {rain}
{snow} {view} {speed} {length}``. What stands outside the slots never carries an entity, so no template may spell out a
time, a phenomenon or a measured value.
"""

FIRST = (
    "青云临海长永安兴宁德平南北东西新嘉金银白黄清河汉怀崇建定瑞丰昌凤龙鹤松柳桐梅石玉泉沙洛淮沧江溪湘衡岳靖武文镇通广和"
)
SECOND = "阳川原州山江宁化源城林田陵水湖浦港门关丘岗泽淀梁远康乐安平昌顺义信春阴溪谷峰岛浜都坝池井波庆津邑海沂"
THIRD = "口湾岭堡桥滩屯寨"
PLACE_ENDINGS = ("市", "县", "区", "镇", "州")
PARTS = ("东部", "西部", "南部", "北部", "中部", "东南部", "西北部", "山区", "沿海", "城区")

MET_ENDINGS = ("气象局", "气象台", "气象服务中心")
NATIONAL_METS = ("中央气象台", "国家气候中心", "省气象台")
GALES = ("大风", "阵风", "雷暴大风")

ORG_ENDINGS = (
    "文旅局", "应急管理局", "交警支队", "水务局", "铁路局", "客运总站", "海事局", "公路管理中心",
    "防汛指挥部", "教育局", "农业农村局", "国际机场", "供电公司",
)  # fmt: skip
NATIONAL_ORGS = ("省交通运输厅", "国家铁路集团", "省文旅厅")

SPOT_ENDINGS = (
    "古城", "湿地公园", "国家森林公园", "大峡谷", "温泉度假区", "博物馆", "滑雪场", "风景名胜区", "地质公园", "植物园",
    "水库", "影视城", "老街", "动物园",
)  # fmt: skip
ROUTE_LINKS = ("至", "到", "—")
ROUTE_ENDINGS = ("高铁", "高速公路", "航线", "城际列车", "旅游专列", "国道", "轮渡", "快速路", "直通车")

DAYS = ("今天", "明天", "后天", "昨天", "前天", "周六", "周日", "下周一", "下周三", "本周五")
DAY_PARTS = ("早晨", "上午", "中午", "下午", "傍晚", "夜间", "白天", "凌晨", "")
SPANS = (
    "未来三天", "未来24小时", "未来一周", "本周末", "今明两天", "国庆假期", "春节期间", "五一假期", "中秋当天",
    "元旦假期", "端午假期", "暑运期间", "春运期间", "本月下旬", "本月中旬", "下月上旬", "入冬以来", "清明前后",
)  # fmt: skip

TIME_FORMS = (
    "{date}{part}", "{date}{part}", "{span}", "{day}日{hour}时", "{month}月{day}日",
    "{month}月{day}日{hour}时{minute}分", "{month}月{day}日至{later}日", "{day}日{hour}时至{next}日{any}时",
    "{date}{hour}时至{evening}时",
)  # fmt: skip

PHENOMENA = (
    "小雨", "中雨", "大雨", "暴雨", "大暴雨", "特大暴雨", "阵雨", "雷阵雨", "短时强降水", "雷电", "冰雹", "大雾",
    "团雾", "轻雾", "沙尘暴", "扬沙", "浮尘", "寒潮", "霜冻", "雨夹雪", "小雪", "中雪", "大雪", "暴雪", "冻雨",
    "大风", "阵风", "雷暴大风", "高温", "干旱", "龙卷", "道路结冰", "重度霾", "小到中雨", "中到大雨", "大到暴雨",
    "小到中雪", "中到大雪", "多云转晴", "阴转小雨", "晴转多云", "多云转阵雨",
)  # fmt: skip
WARNED = ("暴雨", "大雾", "寒潮", "大风", "雷电", "冰雹", "暴雪", "高温", "沙尘暴", "道路结冰", "霜冻", "干旱", "台风")
COLOURS = ("蓝色", "黄色", "橙色", "红色")

WARNING_ENDINGS = ("预警", "预警信号")
UPGRADED = "升级为"

COMMAS = ("、", "、", "、", "、", "，")
LAST_COMMAS = ("和", "及", "以及", "与")
LIST_ENDINGS = ("等地", "等{count}地", "等{count}个县市", "一带")
RANGES = ("～", "至", "到", "-")
UNITS = {
    "temp": "℃",
    "drop": "℃",
    "wind": "级",
    "rain": "毫米",
    "snow": "厘米",
    "view": "米",
    "speed": "公里每小时",
    "length": "公里",
}
PLAIN_MARKS = ("，", "；", "。")

WEATHER_TEMPLATES = (
    "{met}{time}发布{warning}：预计{time}，{many}将出现{weather}，请注意防范。",
    "{met}发布{warning}，{many}的部分地区已出现{weather}，局地雨量达{rain}。",
    "预计{time}，{many}有{weathers}，其中{places}累计雨量可达{rain}。",
    "受冷空气影响，{time}{many}自北向南有{weathers}，气温下降{drop}。",
    "{time}，{many}将有{weather}，{places}的风力可达{wind}。",
    "据{met}消息，{time}{many}出现{weather}，最低能见度不足{view}。",
    "实况显示，{time}{many}先后出现{weathers}，风力最大的是{place}，达到{wind}。",
    "{time}最高气温：{temps}。",
    "{met}{time}公布各地雨量：{rains}，请做好排涝准备。",
    "{time}气温实况，{temps}，早晚温差较大，注意添衣。",
    "监测显示，{time}风力较大的站点有{winds}。",
    "{warning}仍在生效，{many}的学校{time}停课，复课时间另行通知。",
    "{met}{time}解除{warning}，{places}的{weather}已明显减弱。",
    "{met}将{upgrade}，{many}需加强巡查。",
    "{time}，{places}有{weather}，{many}有{weather}，其余地区天气平稳。",
    "{time}阴雨相间，{places}以{weather}为主，{places}则有{weather}，最高气温{temp}。",
    "{place}{time}出现{weather}，最低气温降至{temp}，部分路段湿滑。",
    "{many}未来仍有{weather}的可能，{met}提醒市民及时关注预报。",
    "{orgs}联合发布{warning}，{time}请减少外出。",
    "{time}，{orgs}先后启动应急响应，{many}做好人员转移。",
    "{time}，{place}积雪深度达{snow}，{places}出现{weather}。",
    "预计{time}{many}气温将下降{drop}，并伴有{gale}。",
    "{met}预计，{time}{places}最低气温在{temp}左右，{places}在{temp}左右。",
    "本次过程影响范围广，{many}均达到{weather}量级，{place}雨量最大，为{rain}。",
    "{time}，海上有{gale}，{places}沿线渔船请回港避风。",
    "{place}和{place}之间的山口{time}有{weather}，能见度{view}，请谨慎驾驶。",
    "{met}首席预报员介绍，{time}{many}将迎来一次{weather}过程。",
    "受低涡影响，{many}将先后迎来{weathers}，农户应抢收成熟作物。",
    "{warning}、{warning}同时生效，{places}的居民请尽量留在室内。",
    "{met}：{time}{place}有{weather}，气温{temp}，风力{wind}。",
)

TRAVEL_TEMPLATES = (
    "受{weather}影响，{time}{routes}停运，旅客可到车站办理退票。",
    "{org}通知，{time}起{route}临时限速{speed}，途经{many}。",
    "{time}，{route}因{weather}封闭，车辆请从{places}绕行。",
    "{route}{time}恢复通行，沿线{many}各站正常办理客运业务。",
    "{org}提醒，{time}{spots}暂停开放，已购票的游客可全额退款。",
    "{spots}{time}迎来客流高峰，请提前预约，错峰出行。",
    "{time}，{many}的游客可凭身份证免费参观{spot}。",
    "{org}推出新线路，串起{spots}，{time}发车。",
    "{time}加开{routes}，方便{many}的旅客出行。",
    "{route}全长{length}，经过{many}，计划{time}通车。",
    "{org}称，{spot}周边{length}范围内{time}实行交通管制。",
    "从{place}出发，经{many}，最后抵达{place}，全程约{length}。",
    "{time}，{many}的高速入口因{weather}关闭，{routes}不受影响。",
    "自驾前往{spot}的游客请注意，{time}山上有{weather}，气温仅{temp}。",
    "{orgs}联合推出联票，{time}可游览{spots}。",
    "{spot}位于{place}，距{place}约{length}，{time}对外开放。",
    "{many}开往{place}的班车{time}全部停发，恢复时间请留意{org}通知。",
    "{place}机场{time}有{weather}，飞往{many}的航班出现延误。",
    "{org}公布，{time}到访游客最多的城市依次为{many}。",
    "{routes}{time}起调整时刻，{places}的旅客请提前查询。",
    "受{warning}影响，{spots}等景区{time}闭园，{org}已安排人员值守。",
    "{time}，{route}{place}出口附近能见度只有{view}，限速{speed}。",
    "{org}建议，{time}避开{route}，可改走{route}。",
    "{spot}与{spot}之间新开通{route}，{time}试运行。",
    "{places}的旅行社{time}取消了前往{many}的行程。",
    "{place}至今没有收到{org}的封路通知，{route}{time}照常运营。",
    "游客可在{spot}乘车前往{places}，{time}末班车提前结束。",
    "{time}，{spot}积雪{snow}，{org}提示游客穿防滑鞋。",
)

TEMPLATES = WEATHER_TEMPLATES + TRAVEL_TEMPLATES

PLAIN_CLAUSES = (
    "请广大市民合理安排出行", "驾驶人应减速慢行，保持车距", "出门请随身携带雨具", "老人和儿童尽量减少户外活动",
    "请勿在低洼处停放车辆", "如遇险情请及时拨打求助电话", "各单位要落实值班制度", "请以最新发布的消息为准",
    "注意关好门窗，收好阳台物品", "户外广告牌要及时加固", "切勿前往未开放的区域", "请提前查询车次和票价",
    "退票不收取手续费", "请妥善保管随身物品", "文明旅游，爱护公共环境", "请遵守景区秩序，排队入园",
    "设施农业要做好加固和保温", "请不要轻信网上的传言", "受影响的旅客可以改签", "车站设有热水和休息区",
    "工作人员正在全力抢修", "目前供水供电恢复正常", "请带好有效证件", "导游会在出口处等候大家",
    "行程以合同约定为准", "请自备常用药品", "酒店提供免费接送", "注意饮食卫生，不喝生水",
    "进入山林请勿携带火种", "学校可以根据情况调整教学安排", "施工单位应暂停高空作业", "感谢您的理解和支持",
)  # fmt: skip
